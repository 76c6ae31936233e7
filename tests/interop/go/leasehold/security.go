package leasehold

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Security says who a handle is, and whom it believes. Its zero value: nobody, and no TLS.
type Security struct {
	// TLS is on where this says so, or any of the next four is given. Without authorities, those of the system are believed.
	TLS bool
	// CAFile has the authorities whose coordinators are believed, and no others: PEM. Read once.
	CAFile string
	// CertFile and KeyFile have the certificate to present, with its chain, and its key: PEM. Read for every new connection.
	CertFile, KeyFile string
	// ServerName is expected in the coordinator's certificate instead of the host of its address.
	ServerName string
	// Token is asked for what to present with a call, for every call: it may keep what it has got. See TokenFile.
	Token func(context.Context) (string, error)
}

// SecurityFromEnv is what the environment says, by the names that all clients know: LEASEHOLD_CA, LEASEHOLD_CLIENT_CERT and
// LEASEHOLD_CLIENT_KEY (files), LEASEHOLD_SERVER_NAME, LEASEHOLD_AUTH_TOKEN or LEASEHOLD_AUTH_TOKEN_FILE. What is empty counts
// as not set.
func SecurityFromEnv() Security {
	security := Security{
		CAFile:     os.Getenv("LEASEHOLD_CA"),
		CertFile:   os.Getenv("LEASEHOLD_CLIENT_CERT"),
		KeyFile:    os.Getenv("LEASEHOLD_CLIENT_KEY"),
		ServerName: os.Getenv("LEASEHOLD_SERVER_NAME"),
	}
	if token := os.Getenv("LEASEHOLD_AUTH_TOKEN"); token != "" {
		security.Token = func(context.Context) (string, error) { return token, nil }
	} else if path := os.Getenv("LEASEHOLD_AUTH_TOKEN_FILE"); path != "" {
		security.Token = TokenFile(path)
	}
	return security
}

// TokenFile reads the token in a file, without the white space around it, for every call: it may be replaced while calls go on.
func TokenFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		text, err := os.ReadFile(path)
		return strings.TrimSpace(string(text)), err
	}
}

func (s Security) options() ([]grpc.DialOption, error) {
	transport, err := s.transport()
	if err != nil {
		return nil, err
	}
	options := []grpc.DialOption{grpc.WithTransportCredentials(transport)}
	if s.Token != nil {
		options = append(options, grpc.WithPerRPCCredentials(bearer{s.Token}))
	}
	return options, nil
}

func (s Security) transport() (credentials.TransportCredentials, error) {
	if !s.TLS && cmp.Or(s.CAFile, s.CertFile, s.KeyFile, s.ServerName) == "" {
		return insecure.NewCredentials(), nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: s.ServerName}
	if s.CAFile != "" {
		authorities, err := os.ReadFile(s.CAFile)
		if err != nil {
			return nil, fmt.Errorf("the authorities: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, fmt.Errorf("the authorities: there is no certificate in %s", s.CAFile)
		}
	}
	if (s.CertFile == "") != (s.KeyFile == "") {
		return nil, errors.New("a certificate to present and its key must be given together")
	}
	if s.CertFile != "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(s.CertFile, s.KeyFile)
			return &pair, err
		}
	}
	return credentials.NewTLS(config), nil
}

type bearer struct {
	token func(context.Context) (string, error)
}

func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.token(ctx)
	if err != nil {
		return nil, fmt.Errorf("there is no token to present: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity is left to whoever makes the handle: on one machine, or behind a proxy that encrypts, there is none.
func (bearer) RequireTransportSecurity() bool { return false }
