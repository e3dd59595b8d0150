// Package keygen is the command that makes identities, keys, certificates and a broker's state
// directory. It replaces no file.
package keygen

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/spf13/cobra"
)

// New is the command "keygen".
func New(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("keygen", "Make identities and keys",
		`Makes identities (ML-DSA and Ed25519 together) and keys. Private keys are
written encrypted, mode 0600, and never replace a file ('protect' alone puts one under
another secret).`,
		newKeygenBroker(inv), newKeygenPublisher(inv), newKeygenModel(inv), newKeygenCredential(inv), newKeygenQueue(inv), newKeygenTLSRoot(inv), newKeygenTLS(inv), newKeygenProtect(inv))
}

func newKeygenBroker(inv *cli.Invocation) *cobra.Command {
	var unlock keyfile.Unlock
	var own keyfile.RootUnlock
	var dir, rootKey string
	var hosts []string
	var tlsDays int
	c := &cobra.Command{
		Use:   "broker --state DIR --root FILE --host NAME",
		Short: "Make a broker's root key and its state directory",
		Long: `Makes the broker's root key (ML-DSA-87 with Ed25519), which certifies epochs and
belongs offline, and a state directory with which anchorhold-broker runs: the
first epoch's key and signed statement, the audit log's key, a TLS certificate
and an empty key store. The broker needs the same passphrase or credential at
each start. Give the root key its own (--root-credential-file, --root-passphrase-file
or --root-passphrase): else whoever has the broker's opens the root key as well. The
root's last statement is in FILE.epoch; 'epoch sign' needs it beside the root key.`,
		Example: `  anchorhold keygen credential --out broker.kek
  anchorhold keygen broker --state /var/lib/anchorhold/broker --root root.key --root-passphrase \
    --host broker.example.org --credential-file broker.kek --tls-days 365`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cli.Need(c, "state", "root", "host"); err != nil {
				return err
			}
			if _, err := os.Lstat(rootKey + keyfile.LastEpoch); err == nil {
				return cli.ExplainNew(rootKey+keyfile.LastEpoch, fs.ErrExist) // before anything is made
			}
			u, err := unlock.Choose(c)
			if err != nil {
				return err
			}
			defer keyfile.Wipe(u)
			validity, err := tlsValidity("tls-days", tlsDays)
			if err != nil {
				return err
			}
			rootU, apart, err := own.Choose(c, u)
			if err != nil {
				return err
			}
			if apart {
				defer keyfile.Wipe(rootU)
			}
			root, err := newIdentity(identity.LevelRoot, rootKey, rootU)
			if err != nil {
				return err
			}
			defer root.Wipe()
			made, err := statedir.Make(c.Context(), statedir.Options{Dir: dir, Root: root, Unlock: u, Hosts: hosts, CertificateValidity: validity})
			if err != nil { // without its broker the key is of no use, and in the way of the next try
				return errors.Join(err, os.Remove(rootKey), os.Remove(rootKey+".pub"))
			}
			if err := cli.WriteNew(rootKey+keyfile.LastEpoch, made.Statement, 0o600); err != nil {
				return err
			}
			result := map[string]any{"state": dir, "root": root.Public(), "root_key": rootKey, "root_public": rootKey + ".pub", "root_protected_apart": apart,
				"epoch": made.Epoch, "last_statement": rootKey + keyfile.LastEpoch, "tls_certificate": made.Layout.Certificate(), "audit_public": made.Layout.AuditPublic()}
			return inv.Print(c.OutOrStdout(), result, func(w io.Writer) {
				fmt.Fprintf(w, "root identity    %s\nroot key         %s (keep it offline, with %s)\nroot public      %s (goes into the image's agent.yaml)\nstate directory  %s\nTLS certificate  %s (goes into the image too)\naudit public     %s\n",
					root.Public(), rootKey, rootKey+keyfile.LastEpoch, rootKey+".pub", dir, made.Layout.Certificate(), made.Layout.AuditPublic())
				if !apart {
					fmt.Fprintln(w, "WARNING: what opens the broker's keys opens the root key too (--root-credential-file, --root-passphrase-file, --root-passphrase)")
				}
			})
		},
	}
	c.Flags().StringVar(&dir, "state", "", "the broker's state directory, missing or empty")
	c.Flags().StringVar(&rootKey, "root", "", "file for the root key; its public half goes to FILE.pub")
	c.Flags().StringSliceVar(&hosts, "host", nil, "name or address that guests connect to (repeat for several)")
	c.Flags().IntVar(&tlsDays, "tls-days", 365, "validity of the TLS certificate")
	unlock.Add(c)
	own.Add(c)
	return c
}

func newKeygenProtect(inv *cli.Invocation) *cobra.Command {
	var unlock keyfile.Unlock
	var own keyfile.RootUnlock
	var path string
	c := &cobra.Command{
		Use:   "protect --root FILE",
		Short: "Put a root key under a passphrase or credential of its own",
		Long: `Puts a root key that is under the broker's passphrase or credential, as earlier versions
wrote it, under one of its own. --passphrase-file or --credential-file opens it now (asked
for at a terminal without); --root-passphrase-file, --root-credential-file or
--root-passphrase protects it from then on. The key stays the same.

The file is replaced at once, and only by one that is on the disk and opens. Copies and
backups of the old file still open with the old secret: destroy them.`,
		Example: `  anchorhold keygen protect --root root.key --credential-file broker.kek --root-passphrase
  anchorhold keygen protect --root root.key --credential-file broker.kek --root-credential-file root.kek`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cli.Need(c, "root"); err != nil {
				return err
			}
			if own == (keyfile.RootUnlock{}) {
				return cli.Usage(errors.New("say what protects the key from now on: --root-passphrase-file, --root-credential-file or --root-passphrase"))
			}
			old, err := unlock.Open(c)
			if err != nil {
				return err
			}
			defer keyfile.Wipe(old)
			now, _, err := own.Choose(c, old)
			if err != nil {
				return err
			}
			defer keyfile.Wipe(now)
			root, err := identity.ProtectKeyFile(path, old, now)
			if err != nil {
				return err
			}
			return inv.Print(c.OutOrStdout(), map[string]any{"root": root, "root_key": path}, func(w io.Writer) {
				fmt.Fprintf(w, "root identity  %s\nroot key       %s (opens with the new secret alone; destroy copies of the old file)\n", root, path)
			})
		},
	}
	c.Flags().StringVar(&path, "root", "", "the root key file; any other identity's works as well")
	unlock.Add(c)
	own.Add(c)
	return c
}

func newKeygenPublisher(inv *cli.Invocation) *cobra.Command {
	var unlock keyfile.Unlock
	var out string
	c := &cobra.Command{
		Use:     "publisher --out FILE",
		Short:   "Make the identity that signs sealed models",
		Example: "  anchorhold keygen publisher --out publisher.key",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cli.Need(c, "out"); err != nil {
				return err
			}
			u, err := unlock.Choose(c)
			if err != nil {
				return err
			}
			defer keyfile.Wipe(u)
			k, err := newIdentity(identity.LevelEpoch, out, u)
			if err != nil {
				return err
			}
			defer k.Wipe()
			return inv.Print(c.OutOrStdout(), map[string]any{"publisher": k.Public(), "key": out, "public": out + ".pub"}, func(w io.Writer) {
				fmt.Fprintf(w, "publisher  %s\nkey        %s\npublic     %s\n", k.Public(), out, out+".pub")
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "file for the key; its public half goes to FILE.pub")
	unlock.Add(c)
	return c
}

// newIdentity makes an identity and writes both halves to new files.
func newIdentity(level identity.Level, path string, u identity.Unlock) (*identity.Private, error) {
	k, err := identity.Generate(level)
	if err != nil {
		return nil, err
	}
	if err := identity.WriteKeyFile(path, k, u); err != nil {
		k.Wipe()
		return nil, cli.ExplainNew(path, err)
	}
	if err := identity.WritePublicFile(path+".pub", k.Public()); err != nil {
		k.Wipe()
		return nil, errors.Join(cli.ExplainNew(path+".pub", err), os.Remove(path))
	}
	return k, nil
}

func newKeygenModel(inv *cli.Invocation) *cobra.Command {
	return randomFile(inv, "model", "Make a model key: 32 random bytes that seal one model",
		"  anchorhold keygen model --out model.key\n  anchorhold secret put models/demo --file model.key --model model.ahm", chunkseal.KeySize)
}

func newKeygenCredential(inv *cli.Invocation) *cobra.Command {
	return randomFile(inv, "credential", "Make a random credential that protects keys at rest",
		"  anchorhold keygen credential --out broker.kek\n  systemd-creds encrypt --name=broker.kek broker.kek /etc/credstore.encrypted/broker.kek", 32)
}

func newKeygenQueue(inv *cli.Invocation) *cobra.Command {
	return randomFile(inv, "queue", "Make the key that seals an agent's job queue",
		"  anchorhold keygen queue --out queue.key\n  anchorhold secret put agents/queue --file queue.key", 32)
}

// randomFile makes a command that writes random bytes to a new private file.
func randomFile(inv *cli.Invocation, name, short, example string, size int) *cobra.Command {
	var out string
	c := &cobra.Command{
		Use: name + " --out FILE", Short: short, Example: example, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := cli.Need(c, "out"); err != nil {
				return err
			}
			secret := make([]byte, size)
			defer keybuf.Wipe(secret)
			rand.Read(secret)
			if err := cli.WriteNew(out, secret, 0o600); err != nil {
				return err
			}
			return inv.Print(c.OutOrStdout(), map[string]any{"file": out, "bytes": size}, func(w io.Writer) {
				fmt.Fprintf(w, "%d random bytes in %s; whoever reads the file has the key\n", size, out)
			})
		},
	}
	c.Flags().StringVar(&out, "out", "", "new file")
	return c
}
