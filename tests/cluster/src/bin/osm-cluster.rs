fn main() {
    let tools: Vec<osm_cluster::Tool> = std::env::args().skip(2).map(|a| a.parse().unwrap()).collect();
    for t in tools {
        println!("{}", t.prepare().unwrap().program().display());
    }
}
