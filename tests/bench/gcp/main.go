// Command gcp serves the synthetic mesh of the benchmark by go-control-plane, the peer that the operator's xDS server
// is compared with. It understands the line protocol described in tests/bench/src/control.rs.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

// steered is a cache of some mode that holds the mesh.
type steered interface {
	// cache is what the server reads.
	cache() cache.Cache
	// publish brings the cache to the mesh's state; changed names what differs since the last call.
	publish(state *mesh, changed change) error
}

func newSteered(mode string, nodes int) (steered, error) {
	switch mode {
	case "linear":
		return newLinear(), nil
	case "snapshot-shared":
		return newSnapshots([]string{sharedNode}, sharedHash{}), nil
	case "snapshot-per-node":
		ids := make([]string, nodes)
		for number := range ids {
			ids[number] = fmt.Sprintf("proxy-%d", number)
		}
		return newSnapshots(ids, cache.IDHash{}), nil
	default:
		return nil, fmt.Errorf("mode %q: expected linear, snapshot-shared or snapshot-per-node", mode)
	}
}

func run() error {
	mode := flag.String("mode", "linear", "cache mode: linear, snapshot-shared or snapshot-per-node")
	nodes := flag.Int("nodes", 1000, "number of nodes, proxy-0 and up, that have a snapshot of their own in mode snapshot-per-node")
	address := flag.String("listen", "127.0.0.1:0", "address to serve xDS on")
	flag.Parse()

	served, err := newSteered(*mode, *nodes)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return err
	}
	grpcServer := grpc.NewServer(grpc.MaxConcurrentStreams(100_000))
	xds := server.NewServer(context.Background(), served.cache(), nil)
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, xds)
	failed := make(chan error, 1)
	go func() { failed <- grpcServer.Serve(listener) }()

	output := bufio.NewWriter(os.Stdout)
	say := func(format string, values ...any) error {
		fmt.Fprintf(output, format+"\n", values...)
		return output.Flush()
	}
	if err := say("listening %s", listener.Addr()); err != nil {
		return err
	}
	state := &mesh{}
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		select {
		case err := <-failed:
			return err
		default:
		}
		if err := carryOut(state, served, input.Text()); err != nil {
			if err := say("error %s", err); err != nil {
				return err
			}
			continue
		}
		if err := say("ok"); err != nil {
			return err
		}
	}
	return input.Err()
}

func carryOut(state *mesh, served steered, line string) error {
	changed, err := state.apply(line)
	if err != nil {
		return err
	}
	return served.publish(state, changed)
}

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}
