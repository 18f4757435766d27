package main

import (
	"context"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// linear is a linear cache per type behind a mux: the mode in which one resource can be updated at a time.
type linear struct {
	clusters  *cache.LinearCache
	endpoints *cache.LinearCache
	mux       *cache.MuxCache
}

func newLinear() *linear {
	clusters := cache.NewLinearCache(resource.ClusterType)
	endpoints := cache.NewLinearCache(resource.EndpointType)
	mux := &cache.MuxCache{
		Classify:      func(request *cache.Request) string { return request.GetTypeUrl() },
		ClassifyDelta: func(request *cache.DeltaRequest) string { return request.GetTypeUrl() },
		Caches:        map[string]cache.Cache{resource.ClusterType: clusters, resource.EndpointType: endpoints},
	}
	return &linear{clusters: clusters, endpoints: endpoints, mux: mux}
}

func (l *linear) cache() cache.Cache { return l.mux }

func (l *linear) publish(state *mesh, changed change) error {
	var removed []string
	for index := changed.removed[0]; index < changed.removed[1]; index++ {
		removed = append(removed, serviceName(index))
	}
	clusters := map[string]types.Resource{}
	for index := changed.clusters[0]; index < changed.clusters[1]; index++ {
		clusters[serviceName(index)] = state.cluster(index)
	}
	if len(clusters)+len(removed) > 0 {
		if err := l.clusters.UpdateResources(clusters, removed); err != nil {
			return err
		}
	}
	endpoints := map[string]types.Resource{}
	for index := changed.endpoints[0]; index < changed.endpoints[1]; index++ {
		endpoints[serviceName(index)] = state.assignment(index)
	}
	if len(endpoints)+len(removed) > 0 {
		return l.endpoints.UpdateResources(endpoints, removed)
	}
	return nil
}

const sharedNode = "every-proxy"

// sharedHash makes all nodes share one snapshot.
type sharedHash struct{}

func (sharedHash) ID(*core.Node) string { return sharedNode }

// snapshots is the snapshot cache: each change sets a new snapshot for every node. Built resources are kept, so that
// only what changed is built again; this is the caller's part in go-control-plane, and the best a caller can do.
type snapshots struct {
	nodes     []string
	inner     cache.SnapshotCache
	version   int
	clusters  []types.Resource
	endpoints []types.Resource
}

func newSnapshots(nodes []string, hash cache.NodeHash) *snapshots {
	return &snapshots{nodes: nodes, inner: cache.NewSnapshotCache(false, hash, nil)}
}

func (s *snapshots) cache() cache.Cache { return s.inner }

func (s *snapshots) publish(state *mesh, changed change) error {
	s.clusters = resized(s.clusters, len(state.clusters))
	s.endpoints = resized(s.endpoints, len(state.endpoints))
	for index := changed.clusters[0]; index < changed.clusters[1]; index++ {
		s.clusters[index] = state.cluster(index)
	}
	for index := changed.endpoints[0]; index < changed.endpoints[1]; index++ {
		s.endpoints[index] = state.assignment(index)
	}
	s.version++
	shared, err := s.build()
	if err != nil {
		return err
	}
	for number, node := range s.nodes {
		snapshot := shared
		if number > 0 {
			if snapshot, err = s.build(); err != nil {
				return err
			}
		}
		if err := s.inner.SetSnapshot(context.Background(), node, snapshot); err != nil {
			return err
		}
	}
	return nil
}

func (s *snapshots) build() (*cache.Snapshot, error) {
	return cache.NewSnapshot(strconv.Itoa(s.version), map[resource.Type][]types.Resource{
		resource.ClusterType:  s.clusters,
		resource.EndpointType: s.endpoints,
	})
}

func resized(resources []types.Resource, count int) []types.Resource {
	for len(resources) < count {
		resources = append(resources, nil)
	}
	return resources[:count]
}
