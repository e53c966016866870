//go:build linux

package bench

import (
	"fmt"
	"net"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

// secretService plays the part of the istio-agent in a pod: it hands Envoy the certificates that are not in the cluster.
type secretService struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	socket  string
	server  *grpc.Server
	secrets map[string]*anypb.Any
}

func startSecretService(socket string, authority *Authority, namespace, account string) (*secretService, error) {
	certificate, key, err := authority.Issue(time.Now().AddDate(0, 0, 1), "spiffe://"+clusterDomain+"/ns/"+namespace+"/sa/"+account)
	if err != nil {
		return nil, err
	}
	s := &secretService{socket: socket, server: grpc.NewServer(), secrets: map[string]*anypb.Any{}}
	roots := &tlsv3.CertificateValidationContext{TrustedCa: inline(authority.PEM())}
	for _, secret := range []*tlsv3.Secret{
		{Name: "default", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(certificate), PrivateKey: inline(key)}}},
		{Name: "ROOTCA", Type: &tlsv3.Secret_ValidationContext{ValidationContext: roots}},
		{Name: "file-root:system", Type: &tlsv3.Secret_ValidationContext{ValidationContext: roots}},
	} {
		if s.secrets[secret.GetName()], err = anypb.New(secret); err != nil {
			return nil, err
		}
	}
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	secretv3.RegisterSecretDiscoveryServiceServer(s.server, s)
	go func() { _ = s.server.Serve(listener) }() // until stop
	return s, nil
}

func (s *secretService) stop() { s.server.Stop() }

// StreamSecrets answers the first request for a secret; what follows on the stream are acknowledgements.
func (s *secretService) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if request.GetErrorDetail() != nil {
			return fmt.Errorf("envoy refused %v: %s", request.GetResourceNames(), request.GetErrorDetail().GetMessage())
		}
		if request.GetResponseNonce() != "" {
			continue
		}
		response := &discoveryv3.DiscoveryResponse{VersionInfo: "1", Nonce: "1", TypeUrl: request.GetTypeUrl()}
		for _, name := range request.GetResourceNames() {
			if secret, known := s.secrets[name]; known {
				response.Resources = append(response.Resources, secret)
			}
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

func inline(content []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: content}}
}
