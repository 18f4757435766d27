package main

import (
	"fmt"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstream "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcher "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	endpointsPerService = 10
	firstPort           = 1024
)

// mesh is the state of the synthetic mesh: the revision of each service's cluster and endpoints, as in
// tests/bench/src/world.rs.
type mesh struct {
	clusters  []uint32
	endpoints []uint32
}

// change names the services whose resources a command touched: first, and up to before end.
type change struct {
	clusters  [2]int
	endpoints [2]int
	// removed are services that no longer exist.
	removed [2]int
}

// apply carries out one line of the control protocol on the state.
func (m *mesh) apply(line string) (change, error) {
	var (
		kind                   string
		first, count, revision int
	)
	if line == "rebuild" {
		all := [2]int{0, len(m.clusters)}
		return change{clusters: all, endpoints: all}, nil
	}
	if _, err := fmt.Sscanf(line, "services %d", &count); err == nil {
		return m.resize(count), nil
	}
	if _, err := fmt.Sscanf(line, "change %s %d %d %d", &kind, &first, &count, &revision); err != nil {
		return change{}, fmt.Errorf("unknown command %q", line)
	}
	if first+count > len(m.clusters) {
		return change{}, fmt.Errorf("%q: only %d services are loaded", line, len(m.clusters))
	}
	touched := [2]int{first, first + count}
	switch kind {
	case "clusters":
		setAll(m.clusters[first:first+count], uint32(revision))
		return change{clusters: touched}, nil
	case "endpoints":
		setAll(m.endpoints[first:first+count], uint32(revision))
		return change{endpoints: touched}, nil
	default:
		return change{}, fmt.Errorf("%q: expected clusters or endpoints", line)
	}
}

func (m *mesh) resize(count int) change {
	before := len(m.clusters)
	for len(m.clusters) < count {
		m.clusters = append(m.clusters, 0)
		m.endpoints = append(m.endpoints, 0)
	}
	m.clusters, m.endpoints = m.clusters[:count], m.endpoints[:count]
	if count < before {
		return change{removed: [2]int{count, before}}
	}
	added := [2]int{before, count}
	return change{clusters: added, endpoints: added}
}

func setAll(revisions []uint32, revision uint32) {
	for index := range revisions {
		revisions[index] = revision
	}
}

func serviceName(index int) string {
	return fmt.Sprintf("namespace-%02d/service-%05d|14001", index%50, index)
}

func ads() *core.ConfigSource {
	return &core.ConfigSource{
		ResourceApiVersion:    core.ApiVersion_V3,
		ConfigSourceSpecifier: &core.ConfigSource_Ads{Ads: &core.AggregatedConfigSource{}},
	}
}

func secret(name string) *tls.SdsSecretConfig {
	return &tls.SdsSecretConfig{Name: name, SdsConfig: ads()}
}

func upstreamTLS(index int) *tls.UpstreamTlsContext {
	subject := &tls.SubjectAltNameMatcher{
		SanType: tls.SubjectAltNameMatcher_URI,
		Matcher: &matcher.StringMatcher{MatchPattern: &matcher.StringMatcher_Exact{
			Exact: fmt.Sprintf("spiffe://cluster.local/ns/namespace-%02d/sa/service-%05d", index%50, index),
		}},
	}
	validation := &tls.CommonTlsContext_CombinedCertificateValidationContext{
		DefaultValidationContext: &tls.CertificateValidationContext{
			MatchTypedSubjectAltNames: []*tls.SubjectAltNameMatcher{subject},
		},
		ValidationContextSdsSecretConfig: secret("root-cert-for-mtls-outbound"),
	}
	return &tls.UpstreamTlsContext{
		Sni: fmt.Sprintf("service-%05d.namespace-%02d.svc.cluster.local", index, index%50),
		CommonTlsContext: &tls.CommonTlsContext{
			AlpnProtocols:                  []string{"osm", "h2"},
			TlsCertificateSdsSecretConfigs: []*tls.SdsSecretConfig{secret("service-cert")},
			ValidationContextType: &tls.CommonTlsContext_CombinedValidationContext{
				CombinedValidationContext: validation,
			},
		},
	}
}

func httpOptions() *upstream.HttpProtocolOptions {
	return &upstream.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstream.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstream.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstream.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &core.Http2ProtocolOptions{},
				},
			},
		},
	}
}

// mustAny wraps a message that this program built itself, which cannot fail to encode.
func mustAny(message proto.Message) *anypb.Any {
	wrapped, err := anypb.New(message)
	if err != nil {
		panic(err)
	}
	return wrapped
}

func (m *mesh) cluster(index int) *cluster.Cluster {
	name := serviceName(index)
	return &cluster.Cluster{
		Name:                 name,
		AltStatName:          fmt.Sprintf("%s@%d", name, m.clusters[index]),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_EDS},
		EdsClusterConfig:     &cluster.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: name},
		ConnectTimeout:       durationpb.New(time.Second),
		CircuitBreakers: &cluster.CircuitBreakers{Thresholds: []*cluster.CircuitBreakers_Thresholds{{
			MaxConnections: wrapperspb.UInt32(4096),
			MaxRequests:    wrapperspb.UInt32(8192),
		}}},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": mustAny(httpOptions()),
		},
		TransportSocket: &core.TransportSocket{
			Name:       "envoy.transport_sockets.tls",
			ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: mustAny(upstreamTLS(index))},
		},
	}
}

func (m *mesh) assignment(index int) *endpoint.ClusterLoadAssignment {
	endpoints := make([]*endpoint.LbEndpoint, endpointsPerService)
	for number := range endpoints {
		port := uint32(firstPort)
		if number == 0 {
			port += m.endpoints[index]
		}
		address := &core.SocketAddress{
			Address:       fmt.Sprintf("10.%d.%d.%d", index/250, index%250, number+1),
			PortSpecifier: &core.SocketAddress_PortValue{PortValue: port},
		}
		endpoints[number] = &endpoint.LbEndpoint{
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
				Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: address}},
			}},
			LoadBalancingWeight: wrapperspb.UInt32(1),
		}
	}
	return &endpoint.ClusterLoadAssignment{
		ClusterName: serviceName(index),
		Endpoints: []*endpoint.LocalityLbEndpoints{{
			LbEndpoints:         endpoints,
			LoadBalancingWeight: wrapperspb.UInt32(1),
		}},
	}
}
