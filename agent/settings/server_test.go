package settings_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
)

// A server is named by its section of the configuration, or else by its address, and never
// believed by the system's roots.
func TestServersAreNamedAndVouchedFor(t *testing.T) {
	pem, _, err := hybridtls.NewRoot("a root", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	roots := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(roots, pem, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		section       settings.Broker
		address, name string
		says          string // of an error; "" if there is none
	}{
		"named":       {settings.Broker{TLSRoots: roots, ServerName: "broker"}, "127.0.0.1:1", "broker", ""},
		"by address":  {settings.Broker{TLSRoots: roots}, "broker.example:7443", "broker.example", ""},
		"no port":     {settings.Broker{TLSRoots: roots}, "broker.example", "", "missing port"},
		"no roots":    {settings.Broker{ServerName: "broker"}, "127.0.0.1:1", "", "tls_roots"},
		"empty roots": {settings.Broker{TLSRoots: empty, ServerName: "broker"}, "127.0.0.1:1", "", "tls_roots"},
	} {
		cfg := settings.Config{Broker: tc.section}
		cfg.Broker.Profile = "fips"
		cfg.Federation.TLSRoots, cfg.Federation.ServerName = tc.section.TLSRoots, tc.section.ServerName
		for section, of := range map[string]func(string) (settings.Server, error){"broker": cfg.BrokerServer, "federation": cfg.AggregatorServer} {
			s, err := of(tc.address)
			if tc.says != "" {
				if err == nil || !strings.HasPrefix(err.Error(), section) || !strings.Contains(err.Error(), tc.says) {
					t.Errorf("%s, %s: %v does not say %q", section, what, err, tc.says)
				}
				continue
			}
			if err != nil || s.Name != tc.name || s.Profile != hybridtls.ProfileFIPS {
				t.Errorf("%s, %s: %+v, %v", section, what, s, err)
				continue
			}
			if config, err := s.TLS(); err != nil || config.ServerName != tc.name || config.RootCAs != s.Roots {
				t.Errorf("%s, %s: %v", section, what, err)
			}
		}
	}
}
