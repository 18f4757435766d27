use std::time::{Duration, Instant};

use osm_api::MeshObject;
use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Manifest {
    Manifest::parse(Path::new("mesh/a.yaml"), text.as_bytes())
}

fn problems(text: &str) -> Vec<String> {
    parse(text).problems.iter().map(ToString::to_string).collect()
}

fn names(manifest: &Manifest) -> Vec<String> {
    manifest.objects.iter().map(|declared| declared.reference.to_string()).collect()
}

const ACCOUNT: &str = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: bookstore\n";

const TARGET: &str = "apiVersion: access.smi-spec.io/v1alpha3\nkind: TrafficTarget\nmetadata:\n  name: buyer\n  namespace: bookstore\nspec:\n  destination: {kind: ServiceAccount, name: bookstore, namespace: bookstore}\n";

#[test]
fn objects_of_all_documents_are_declared_where_they_stand() {
    let manifest = parse(&format!("{ACCOUNT}---\n# nothing\n---\n{TARGET}  rules: []\n  sources: []\n"));
    assert_eq!(manifest.problems, []);
    assert_eq!(names(&manifest), ["serviceaccount/default/bookstore", "traffictarget/bookstore/buyer"]);
    let places: Vec<_> = manifest.objects.iter().map(|declared| declared.place).collect();
    assert_eq!(places, [Place { document: 1, line: 1 }, Place { document: 2, line: 8 }]);
}

#[test]
fn lists_are_taken_apart() {
    let manifest = parse(
        "apiVersion: v1\nkind: List\nitems:\n\
         - {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n\
         - apiVersion: v1\n  kind: List\n  items: [{apiVersion: v1, kind: Service, metadata: {name: b}}]\n\
         - {apiVersion: v1, kind: PodList, items: [{metadata: {name: c, namespace: shop}}]}\n\
         ---\n{apiVersion: v1, kind: List}\n---\n{apiVersion: v1, kind: List, items: null}\n",
    );
    assert_eq!(manifest.problems, []);
    assert_eq!(names(&manifest), ["namespace/a", "service/default/b", "pod/shop/c"]);
    assert_eq!(
        problems("apiVersion: v1\nkind: List\nitems: {a: 1}\n"),
        ["mesh/a.yaml:3: items: is not a list; write the objects as elements of a list"]
    );
}

#[test]
fn kinds_that_the_mesh_does_not_read_are_counted() {
    let manifest = parse(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n---\n\
         {apiVersion: apps/v1, kind: Deployment}\n---\n{apiVersion: example.com/v1, kind: ThingList, items: [1]}\n",
    );
    assert_eq!(manifest.problems, []);
    assert_eq!(manifest.objects, []);
    let counts: Vec<_> = manifest.ignored.iter().map(|(kind, count)| (kind.to_string(), *count)).collect();
    assert_eq!(counts, [("apps/v1 Deployment".to_owned(), 2), ("example.com/v1 ThingList".to_owned(), 1)]);
}

#[test]
fn our_kinds_are_read_strictly_and_those_of_kubernetes_leniently() {
    let manifest = parse("{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {newThing: 1}}");
    assert_eq!(manifest.problems, []);
    assert_eq!(
        problems(&format!("{ACCOUNT}---\n{TARGET}  sorces: []\n  rules: [{{kind: TCPRoute, name: r, matchs: [x]}}]\n")),
        [
            "mesh/a.yaml:14: traffictarget/bookstore/buyer: spec.rules[0].matchs: there is no such field; \
             did you mean matches?",
            "mesh/a.yaml:13: traffictarget/bookstore/buyer: spec.sorces: there is no such field; did you mean sources?",
        ]
    );
}

#[test]
fn a_wrong_value_is_named_with_object_field_value_and_remedy() {
    let manifest = parse(&format!("{TARGET}  rules: [{{kind: 7, name: r}}]\n  sources: []\n"));
    let [problem] = manifest.problems.as_slice() else { panic!("{:?}", manifest.problems) };
    assert_eq!(problem.object.as_ref().map(ToString::to_string).as_deref(), Some("traffictarget/bookstore/buyer"));
    assert_eq!(problem.field.as_deref(), Some("spec.rules[0].kind"));
    assert_eq!(problem.value.as_deref(), Some("7"));
    assert_eq!((problem.document, problem.line), (Some(1), Some(8)));
    assert!(!problem.message.is_empty() && !problem.remedy.is_empty(), "{problem}");
}

#[test]
fn a_problem_in_a_list_has_the_line_of_the_field() {
    let list = "---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n\
                - apiVersion: v1\n  kind: ServiceAccount\n  metadata:\n    name: b\n    labels: 7\n";
    let manifest = parse(list);
    let [problem] = manifest.problems.as_slice() else { panic!("{:?}", manifest.problems) };
    assert_eq!((problem.line, problem.field.as_deref()), (Some(10), Some("metadata.labels")));
    let json =
        "{\"apiVersion\": \"v1\",\n\"kind\": \"ServiceAccount\",\n\"metadata\": {\"name\": \"b\",\n\"labels\": 7}}";
    let manifest = Manifest::parse(Path::new("a.json"), format!("\n{json}").as_bytes());
    assert_eq!(manifest.problems[0].line, Some(5));
}

#[test]
fn what_is_no_object_is_told_and_does_not_hide_its_neighbours() {
    let manifest = parse(&format!("- 1\n---\nkind: Pod\n---\n{ACCOUNT}---\na: [\n"));
    assert_eq!(names(&manifest), ["serviceaccount/default/bookstore"]);
    let lines: Vec<_> = manifest.problems.iter().map(|problem| (problem.document, problem.line)).collect();
    assert_eq!(lines[..2], [(Some(1), Some(1)), (Some(2), Some(3))]);
    assert_eq!(manifest.problems.len(), 3);
    assert_eq!(manifest.problems[1].field.as_deref(), Some("apiVersion"));
}

#[test]
fn a_file_that_is_not_utf8_is_told_with_the_line() {
    let manifest = Manifest::parse(Path::new("mesh/a.yaml"), b"a: 1\nb: \xff\n");
    assert_eq!(
        manifest.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["mesh/a.yaml:2: is not UTF-8 (byte 8); save the file in the encoding UTF-8"]
    );
    let with_mark = Manifest::parse(Path::new("a.yaml"), format!("\u{feff}{ACCOUNT}").as_bytes());
    assert_eq!((with_mark.objects.len(), with_mark.problems), (1, Vec::new()));
}

#[test]
fn json_is_read_as_json_by_the_name_of_the_file() {
    let text = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Namespace\",\n\t\"metadata\": {\"name\": \"a\"}\n}\n";
    let manifest = Manifest::parse(Path::new("a.json"), text.as_bytes());
    assert_eq!((names(&manifest), manifest.problems), (vec!["namespace/a".to_owned()], Vec::new()));
    let yaml = Manifest::parse(Path::new("a.json"), ACCOUNT.as_bytes());
    assert_eq!(yaml.problems.len(), 1);
    assert!(yaml.problems[0].message.starts_with("is no valid JSON"), "{:?}", yaml.problems);
}

#[test]
fn a_file_full_of_faults_tells_the_first_and_that_there_are_more() {
    let manifest = parse(&"- 1\n---\n".repeat(100_000));
    assert_eq!(manifest.problems.len(), MAX_PROBLEMS + 1);
    assert_eq!(manifest.problems[MAX_PROBLEMS].message, "has more problems than these");
    let items = vec!["{}"; 1000].join(",");
    assert_eq!(parse(&format!("{{apiVersion: v1, kind: List, items: [{items}]}}")).problems.len(), MAX_PROBLEMS + 1);
}

#[test]
fn objects_keep_what_was_written() {
    let manifest = parse(&format!("{TARGET}  rules: []\n  sources: []\n"));
    let Object::TrafficTarget(target) = &manifest.objects[0].object else { panic!("{manifest:?}") };
    assert_eq!(target.metadata().generation, None);
    assert_eq!(target.metadata().creation_timestamp, None);
    assert_eq!(target.spec.destination.name, "bookstore");
}

#[test]
fn deep_objects_are_refused_or_read_but_do_not_exhaust_the_stack() {
    for levels in [20, 40, 60, 80, 100, 120, 10_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
            let deep = format!("{}1{}", open.repeat(levels), close.repeat(levels));
            for kind in [
                "access.smi-spec.io/v1alpha3\", \"kind\": \"TrafficTarget",
                "v1\", \"kind\": \"Pod",
                "v1\", \"kind\": \"List",
            ] {
                let text = format!(
                    "{{\"apiVersion\": \"{kind}\", \"metadata\": {{\"name\": \"a\"}}, \"spec\": {{\"x\": {deep}}}, \"items\": [{deep}]}}"
                );
                for name in ["a.json", "a.yaml"] {
                    let manifest = Manifest::parse(Path::new(name), text.as_bytes());
                    assert_ne!((manifest.objects.len(), manifest.problems.len()), (0, 0), "{levels} {open} {kind}");
                }
            }
        }
    }
}

/// Texts in which the cost of reading could grow faster than their length.
#[test]
fn no_text_takes_time_out_of_proportion_to_its_length() {
    const BYTES: usize = 256 * 1024;
    const LIMIT: Duration = Duration::from_secs(30);
    for part in [
        "[",
        "{",
        "- ",
        "? ",
        "[]\n",
        "[],",
        "{},",
        "a: ",
        "a:\n ",
        "a\n",
        "\"",
        "'",
        "|\n",
        "&a ",
        "&a a: *a\n",
        "*a\n",
        "!",
        "!!x ",
        "%",
        "%TAG ! !\n",
        "...\n",
        "---\n",
        "--- - \n",
        "\t",
        "\r",
        "# ",
        " ",
        "<<: ",
        "- &a [*a]\n",
        ",",
        "\u{85}",
        "ä: ",
    ] {
        let text = part.repeat(BYTES / part.len());
        for name in ["a.yaml", "a.json"] {
            let start = Instant::now();
            Manifest::parse(Path::new(name), text.as_bytes());
            assert!(start.elapsed() < LIMIT, "{part:?} in {name} took {:?}", start.elapsed());
        }
    }
}

fn yaml_soup() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        proptest::sample::select(vec![
            "apiVersion: ",
            "kind: ",
            "metadata:\n",
            "  name: ",
            "spec:\n",
            "v1",
            "List",
            "items:\n",
            "- ",
            "  ",
            "\n",
            "---\n",
            "...\n",
            "[",
            "]",
            "{",
            "}",
            ",",
            ": ",
            "? ",
            "&a ",
            "*a",
            "<<: ",
            "|\n",
            ">-\n",
            "\"",
            "'",
            "# ",
            "!!str ",
            "!x ",
            "%YAML 1.2\n",
            "~",
            "1",
            ".nan",
            "-.inf",
            "0x1F",
            "true",
            "off",
            "\t",
            "\r\n",
            "\u{feff}",
            "TrafficTarget",
            "access.smi-spec.io/v1alpha3",
            "Service",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(token, 0..80).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn any_bytes_are_either_objects_or_problems(bytes in proptest::collection::vec(any::<u8>(), 0..2048), json in any::<bool>()) {
        let name = if json { "a.json" } else { "a.yaml" };
        let start = Instant::now();
        let manifest = Manifest::parse(Path::new(name), &bytes);
        prop_assert!(start.elapsed() < Duration::from_secs(10));
        prop_assert!(manifest.problems.len() <= MAX_PROBLEMS + 1);
    }

    #[test]
    fn any_sequence_of_tokens_is_either_objects_or_problems(text in yaml_soup(), json in any::<bool>()) {
        let name = if json { "a.json" } else { "a.yaml" };
        let start = Instant::now();
        let manifest = Manifest::parse(Path::new(name), text.as_bytes());
        prop_assert!(start.elapsed() < Duration::from_secs(10));
        for problem in &manifest.problems {
            prop_assert!(!problem.to_string().contains(char::is_control), "{problem:?}");
            prop_assert!(!problem.remedy.is_empty());
        }
    }
}
