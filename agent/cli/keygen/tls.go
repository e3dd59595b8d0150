package keygen

import (
	"context"
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

// The words of "tls-root".
const (
	tlsRootUse   = "tls-root --out NAME"
	tlsRootShort = "Make a root that signs TLS certificates"
	tlsRootLong  = `Makes a root certificate NAME.crt, which goes into images (tls_roots), and its key
NAME.key, which signs certificates (keygen tls --under NAME) and belongs offline. The
key is not encrypted. Whoever has it can impersonate the server's host, but not the
broker: keys are released under the broker's own identity.`
	tlsRootExample  = "  anchorhold keygen tls-root --out tls-root --days 1825"
	tlsRootResult   = "root %s.crt (goes into images), key %s.key (keep it offline), until %s\n"
	tlsRootFlagOut  = "name of the files, without .crt and .key"
	tlsRootFlagDays = "validity in days"
	tlsRootSubject  = "Anchorhold TLS root"
)

// The words of "tls".
const (
	tlsUse   = "tls --out NAME --host HOST"
	tlsShort = "Make a TLS certificate for a broker or an aggregator"
	tlsLong  = `Makes a certificate NAME.crt and its key NAME.key. With --under ROOT it is signed by the
root ROOT.crt, whose key is ROOT.key: images that have the root need not change when the
certificate does. Without --under it is self-signed, is its own root, and goes into the
images itself.

A broker's files are tls.crt and tls.key in its state directory; an aggregator's are
those that its configuration names. Put the new files in their place and reload.`
	tlsExample = `  anchorhold keygen tls-root --out tls-root --days 1825
  anchorhold keygen tls --out broker --host broker.example.org --days 90 --under tls-root
  anchorhold keygen tls --out aggregator --host aggregator.example.org`
	tlsResult    = "certificate %s.crt, key %s.key, until %s; images need %s.crt under tls_roots\n"
	tlsFlagOut   = "name of the files, without .crt and .key"
	tlsFlagHost  = "name or address that guests connect to (repeat for several)"
	tlsFlagDays  = "validity in days"
	tlsFlagUnder = "name of the signing root's files, without .crt and .key"
)

// The words of "tls-root" and "tls".
const (
	tlsUnderUnread    = "--under: %w"
	tlsUnderInvalid   = "--under %s: %w"
	tlsDaysOutOfRange = "--%s %d: a certificate is valid for 1 to %d days"
)

// tlsRootOptions are the flags of "tls-root".
type tlsRootOptions struct {
	out  string // --out
	days int    // --days
}

func newKeygenTLSRoot(inv *cli.Invocation) *cobra.Command {
	var o tlsRootOptions
	c := &cobra.Command{
		Use: tlsRootUse, Short: tlsRootShort, Args: cobra.NoArgs,
		Long:    tlsRootLong,
		Example: tlsRootExample,
		RunE:    inv.RunE(o.run, "out"),
	}
	c.Flags().StringVar(&o.out, "out", "", tlsRootFlagOut)
	c.Flags().IntVar(&o.days, "days", 1825, tlsRootFlagDays)
	return c
}

func (o *tlsRootOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	validity, err := tlsValidity("days", o.days)
	if err != nil {
		return err
	}
	certPEM, keyPEM, err := hybridtls.NewRoot(tlsRootSubject, validity)
	if err != nil {
		return err
	}
	ends := time.Now().Add(validity)
	if err := writeCertificate(o.out, certPEM, keyPEM); err != nil {
		return err
	}
	return inv.Print(map[string]any{"certificate": o.out + ".crt", "key": o.out + ".key", "not_after": ends.UTC().Truncate(time.Second)}, func(w io.Writer) {
		fmt.Fprintf(w, tlsRootResult, o.out, o.out, ends.Format(time.DateOnly))
	})
}

// tlsOptions are the flags of "tls".
type tlsOptions struct {
	out   string   // --out
	root  string   // --under
	hosts []string // --host
	days  int      // --days
}

func newKeygenTLS(inv *cli.Invocation) *cobra.Command {
	var o tlsOptions
	c := &cobra.Command{
		Use: tlsUse, Short: tlsShort,
		Long:    tlsLong,
		Example: tlsExample, Args: cobra.NoArgs,
		RunE: inv.RunE(o.run, "out", "host"),
	}
	c.Flags().StringVar(&o.out, "out", "", tlsFlagOut)
	c.Flags().StringSliceVar(&o.hosts, "host", nil, tlsFlagHost)
	c.Flags().IntVar(&o.days, "days", 365, tlsFlagDays)
	c.Flags().StringVar(&o.root, "under", "", tlsFlagUnder)
	return c
}

func (o *tlsOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	validity, err := tlsValidity("days", o.days)
	if err != nil {
		return err
	}
	issue, trusted := hybridtls.NewCertificate, o.out
	if o.root != "" {
		r, err := readTLSRoot(o.root)
		if err != nil {
			return err
		}
		issue, trusted = r.Issue, o.root
	}
	certPEM, keyPEM, err := issue(o.hosts, validity)
	if err != nil {
		return err
	}
	ends := time.Now().Add(validity)
	if err := writeCertificate(o.out, certPEM, keyPEM); err != nil {
		return err
	}
	result := map[string]any{"certificate": o.out + ".crt", "key": o.out + ".key", "hosts": o.hosts, "root": trusted + ".crt", "not_after": ends.UTC().Truncate(time.Second)}
	return inv.Print(result, func(w io.Writer) {
		fmt.Fprintf(w, tlsResult, o.out, o.out, ends.Format(time.DateOnly), trusted)
	})
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
		return nil, fmt.Errorf(tlsUnderUnread, err)
	}
	keyPEM, err := cli.ReadFile(name + ".key")
	if err != nil {
		return nil, fmt.Errorf(tlsUnderUnread, err)
	}
	defer keybuf.Wipe(keyPEM)
	root, err := hybridtls.ParseRoot(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf(tlsUnderInvalid, name, err)
	}
	return root, nil
}

// tlsValidity is the validity of a certificate in days.
func tlsValidity(flag string, days int) (time.Duration, error) {
	if days < 1 || days > maxTLSDays {
		return 0, cli.Usage(fmt.Errorf(tlsDaysOutOfRange, flag, days, maxTLSDays))
	}
	return time.Duration(days) * 24 * time.Hour, nil
}

// maxTLSDays bounds a certificate's validity: whoever has its key can pretend to be the
// server that long.
const maxTLSDays = 3650
