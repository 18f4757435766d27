# syntax=docker/dockerfile:1
# The operator's image, which is also the init container of pods: docker build --tag osm-operator .
FROM rust:1.95-bookworm AS build
WORKDIR /source
RUN apt-get update && apt-get install --yes --no-install-recommends cmake
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/source/target \
    cargo build --locked --release -p osm-operator --bin osm-operator && cp target/release/osm-operator /osm-operator

# A root file system with the program, what `osm-operator intercept` runs, the libraries of both, and little else.
FROM debian:bookworm-slim AS root
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates iptables
COPY --from=build /osm-operator /root-fs/usr/local/bin/osm-operator
RUN <<'SCRIPT'
set -eu
root=/root-fs
plugins=$(dirname "$(find /usr/lib -path '*/xtables/libxt_tcp.so')")
add() {
    mkdir -p "$root$(dirname "$1")"
    cp --dereference "$1" "$root$1"
}
add /usr/sbin/xtables-nft-multi
for name in ip6tables-restore ip6tables-save iptables-restore iptables-save; do
    ln -s xtables-nft-multi "$root/usr/sbin/$name"
done
for plugin in "$plugins"/*.so; do
    add "$plugin"
done
for program in "$root/usr/local/bin/osm-operator" /usr/sbin/xtables-nft-multi "$plugins"/*.so; do
    ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
        [ -e "$root$library" ] || add "$library"
    done
done
add /etc/ssl/certs/ca-certificates.crt
cat >"$root/etc/passwd" <<'FILE'
root:x:0:0:root:/:/sbin/nologin
envoy:x:1500:1500:envoy:/:/sbin/nologin
nobody:x:65532:65532:nobody:/:/sbin/nologin
FILE
printf 'root:x:0:\nenvoy:x:1500:\nnobody:x:65532:\n' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
mkdir --mode 1777 "$root/tmp"
SCRIPT

FROM scratch
COPY --from=root /root-fs /
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
USER 65532:65532
WORKDIR /
ENTRYPOINT ["/usr/local/bin/osm-operator"]
