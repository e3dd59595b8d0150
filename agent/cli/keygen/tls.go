package keygen

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/spf13/cobra"
)

func newKeygenTLSRoot(inv *cli.Invocation) *cobra.Command {
	var out string
	var days int
	c := &cobra.Command{
		Use: "tls-root --out NAME", Short: "Make a root that signs TLS certificates", Args: cobra.NoArgs,
		Long: `Makes a root certificate NAME.crt, which goes into images (tls_roots), and its key
NAME.key, which signs certificates (keygen tls --under NAME) and belongs offline.
The key is not encrypted. Whoever has it can pose as the server's host, not as the
broker: keys are released under the broker's own identity.`,
		Example: "  anchorhold keygen tls-root --out tls-root --days 1825",
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cli.Need(c, "out"); err != nil {
				return err
			}
			validity, err := tlsValidity("days", days)
			if err != nil {
				return err
			}
			certPEM, keyPEM, err := hybridtls.NewRoot("Anchorhold TLS root", validity)
			if err != nil {
				return err
			}
			ends := time.Now().Add(validity)
			if err := writeCertificate(out, certPEM, keyPEM); err != nil {
				return err
			}
			return inv.Print(c.OutOrStdout(), map[string]any{"certificate": out + ".crt", "key": out + ".key", "not_after": ends.UTC().Truncate(time.Second)}, func(w io.Writer) {
				fmt.Fprintf(w, "root %s.crt (goes into images), key %s.key (keep it offline), until %s\n", out, out, ends.Format(time.DateOnly))
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "name of the files, without .crt and .key")
	c.Flags().IntVar(&days, "days", 1825, "validity")
	return c
}

func newKeygenTLS(inv *cli.Invocation) *cobra.Command {
	var out, root string
	var hosts []string
	var days int
	c := &cobra.Command{
		Use: "tls --out NAME --host HOST", Short: "Make a TLS certificate for a broker or an aggregator",
		Long: `Makes a certificate NAME.crt and its key NAME.key. With --under ROOT the root
ROOT.crt signs it, with ROOT.key beside it: images that have the root need not
change when the certificate does. Without, it is self-signed, is its own root and
goes into the images itself.

A broker's files are tls.crt and tls.key of its state directory, an aggregator's
those of its configuration: put new ones in their places and reload.`,
		Example: `  anchorhold keygen tls-root --out tls-root --days 1825
  anchorhold keygen tls --out broker --host broker.example.org --days 90 --under tls-root
  anchorhold keygen tls --out aggregator --host aggregator.example.org`, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cli.Need(c, "out", "host"); err != nil {
				return err
			}
			validity, err := tlsValidity("days", days)
			if err != nil {
				return err
			}
			issue, trusted := hybridtls.NewCertificate, out
			if root != "" {
				r, err := readTLSRoot(root)
				if err != nil {
					return err
				}
				issue, trusted = r.Issue, root
			}
			certPEM, keyPEM, err := issue(hosts, validity)
			if err != nil {
				return err
			}
			ends := time.Now().Add(validity)
			if err := writeCertificate(out, certPEM, keyPEM); err != nil {
				return err
			}
			result := map[string]any{"certificate": out + ".crt", "key": out + ".key", "hosts": hosts, "root": trusted + ".crt", "not_after": ends.UTC().Truncate(time.Second)}
			return inv.Print(c.OutOrStdout(), result, func(w io.Writer) {
				fmt.Fprintf(w, "certificate %s.crt, key %s.key, until %s; images need %s.crt under tls_roots\n", out, out, ends.Format(time.DateOnly), trusted)
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "name of the files, without .crt and .key")
	c.Flags().StringSliceVar(&hosts, "host", nil, "name or address that guests connect to (repeat for several)")
	c.Flags().IntVar(&days, "days", 365, "validity")
	c.Flags().StringVar(&root, "under", "", "name of the files of the root that signs, without .crt and .key")
	return c
}

// writeCertificate writes both files, or neither.
func writeCertificate(name string, certPEM, keyPEM []byte) error {
	defer keybuf.Wipe(keyPEM)
	if err := cli.WriteNew(name+".key", keyPEM, 0o600); err != nil {
		return err
	}
	if err := cli.WriteNew(name+".crt", certPEM, 0o644); err != nil {
		return errors.Join(err, os.Remove(name+".key"))
	}
	return nil
}

func readTLSRoot(name string) (*hybridtls.Root, error) {
	certPEM, err := cli.ReadFile(name + ".crt")
	if err != nil {
		return nil, fmt.Errorf("--under: %w", err)
	}
	keyPEM, err := cli.ReadFile(name + ".key")
	if err != nil {
		return nil, fmt.Errorf("--under: %w", err)
	}
	defer keybuf.Wipe(keyPEM)
	root, err := hybridtls.ParseRoot(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("--under %s: %w", name, err)
	}
	return root, nil
}

// tlsValidity is the validity of a certificate in days.
func tlsValidity(flag string, days int) (time.Duration, error) {
	if days < 1 || days > maxTLSDays {
		return 0, cli.Usage(fmt.Errorf("--%s %d: a certificate is valid for 1 to %d days", flag, days, maxTLSDays))
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// maxTLSDays bounds a certificate's validity: whoever has its key can pretend to be the
// server that long.
const maxTLSDays = 3650
