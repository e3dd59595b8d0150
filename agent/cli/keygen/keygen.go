// Package keygen has the commands that make identities, keys, certificates and a broker's state
// directory. They replace no file.
package keygen

import (
	"context"
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
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/keybuf"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/spf13/cobra"
)

// The words of "keygen".
const (
	keygenShort = "Make identities and keys"
	keygenLong  = `Makes identities (ML-DSA and Ed25519 together) and keys. Private keys are written
encrypted, with mode 0600, and never replace a file; only 'protect' rewrites one, under
another secret.`
)

// The words of "broker".
const (
	brokerUse   = "broker --state DIR --root FILE --host NAME"
	brokerShort = "Make a broker's root key and its state directory"
	brokerLong  = `Makes the broker's root key (ML-DSA-87 with Ed25519), which certifies epochs and belongs
offline, and a state directory for anchorhold-broker: the first epoch's key and signed
statement, the audit log's key, a TLS certificate and an empty key store. The broker
needs the same passphrase or credential at each start.

Give the root key its own (--root-credential-file, --root-passphrase-file or
--root-passphrase): otherwise whoever has the broker's can open the root key as well.
The root's last statement is in FILE.epoch; 'epoch sign' needs it beside the root key.`
	brokerExample = `  anchorhold keygen credential --out broker.kek
  anchorhold keygen broker --state /var/lib/anchorhold/broker --root root.key --root-passphrase \
    --host broker.example.org --credential-file broker.kek --tls-days 365`
	brokerResult        = "root identity    %s\nroot key         %s (keep it offline, with %s)\nroot public      %s (goes into the image's agent.yaml)\nstate directory  %s\nTLS certificate  %s (goes into the image too)\naudit public     %s\n"
	brokerSharedWarning = "WARNING: the secret that opens the broker's keys opens the root key too (--root-credential-file, --root-passphrase-file or --root-passphrase gives it its own)"
	brokerFlagState     = "the broker's state directory, missing or empty"
	brokerFlagRoot      = "file for the root key; its public half goes to FILE.pub"
	brokerFlagHost      = "name or address that guests connect to (repeat for several)"
	brokerFlagTLSDays   = "validity of the TLS certificate in days"
)

// The words of "protect".
const (
	protectUse   = "protect --root FILE"
	protectShort = "Give a root key a passphrase or credential of its own"
	protectLong  = `Puts a root key that is under the broker's passphrase or credential, as earlier versions
wrote it, under one of its own. --passphrase-file or --credential-file opens it now
(prompts if omitted); --root-passphrase-file, --root-credential-file or
--root-passphrase protects it from then on. The key itself stays the same.

The file is replaced in one step, and only once the new one is on disk and opens. Copies
and backups of the old file still open with the old secret: destroy them.`
	protectExample = `  anchorhold keygen protect --root root.key --credential-file broker.kek --root-passphrase
  anchorhold keygen protect --root root.key --credential-file broker.kek --root-credential-file root.kek`
	protectNoSecret = "say what will protect the key from now on: --root-passphrase-file, --root-credential-file or --root-passphrase"
	protectResult   = "root identity  %s\nroot key       %s (opens with the new secret alone; destroy copies of the old file)\n"
	protectFlagRoot = "the root key file; any other identity's key file works too"
)

// The words of "publisher".
const (
	publisherUse     = "publisher --out FILE"
	publisherShort   = "Make the identity that signs sealed models"
	publisherExample = "  anchorhold keygen publisher --out publisher.key"
	publisherResult  = "publisher  %s\nkey        %s\npublic     %s\n"
	publisherFlagOut = "file for the key; its public half goes to FILE.pub"
)

// The words of "model".
const (
	modelUse     = "model --out FILE"
	modelShort   = "Make a model key: 32 random bytes that seal one model"
	modelExample = "  anchorhold keygen model --out model.key\n  anchorhold secret put models/demo --file model.key --model model.ahm"
)

// The words of "credential".
const (
	credentialUse     = "credential --out FILE"
	credentialShort   = "Make a random credential that protects keys at rest"
	credentialExample = "  anchorhold keygen credential --out broker.kek\n  systemd-creds encrypt --name=broker.kek broker.kek /etc/credstore.encrypted/broker.kek"
)

// The words of "queue".
const (
	queueUse     = "queue --out FILE"
	queueShort   = "Make the key that seals an agent's job queue"
	queueExample = "  anchorhold keygen queue --out queue.key\n  anchorhold secret put agents/queue --file queue.key"
)

// The words of "model", "credential" and "queue".
const (
	randomFileResult  = "%d random bytes in %s; whoever can read the file has the key\n"
	randomFileFlagOut = "new file for the random bytes"
)

// New is the command "keygen".
func New(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("keygen", keygenShort,
		keygenLong,
		newKeygenBroker(inv), newKeygenPublisher(inv), newKeygenModel(inv), newKeygenCredential(inv), newKeygenQueue(inv), newKeygenTLSRoot(inv), newKeygenTLS(inv), newKeygenProtect(inv))
}

// brokerOptions are the flags of "broker".
type brokerOptions struct {
	unlock  keyfile.Unlock
	own     keyfile.RootUnlock
	dir     string   // --state
	rootKey string   // --root
	hosts   []string // --host
	tlsDays int      // --tls-days
}

func newKeygenBroker(inv *cli.Invocation) *cobra.Command {
	var o brokerOptions
	c := &cobra.Command{
		Use:     brokerUse,
		Short:   brokerShort,
		Long:    brokerLong,
		Example: brokerExample,
		Args:    cobra.NoArgs,
		RunE:    inv.RunE(o.run, "state", "root", "host"),
	}
	c.Flags().StringVar(&o.dir, "state", "", brokerFlagState)
	c.Flags().StringVar(&o.rootKey, "root", "", brokerFlagRoot)
	c.Flags().StringSliceVar(&o.hosts, "host", nil, brokerFlagHost)
	c.Flags().IntVar(&o.tlsDays, "tls-days", 365, brokerFlagTLSDays)
	o.unlock.Add(c)
	o.own.Add(c)
	return c
}

func (o *brokerOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	if _, err := os.Lstat(o.rootKey + keyfile.LastEpoch); err == nil {
		return cli.ExplainNew(o.rootKey+keyfile.LastEpoch, fs.ErrExist) // before anything is made
	}
	u, err := o.unlock.Choose(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer keyfile.Wipe(u)
	validity, err := tlsValidity("tls-days", o.tlsDays)
	if err != nil {
		return err
	}
	rootU, apart, err := o.own.Choose(ctx, inv.Err, u)
	if err != nil {
		return err
	}
	if apart {
		defer keyfile.Wipe(rootU)
	}
	root, err := newIdentity(identity.LevelRoot, o.rootKey, rootU)
	if err != nil {
		return err
	}
	defer root.Wipe()
	made, err := statedir.Make(ctx, statedir.Options{Dir: o.dir, Root: root, Unlock: u, Hosts: o.hosts, CertificateValidity: validity})
	if err != nil { // without its broker the key is of no use, and in the way of the next try
		return errors.Join(err, os.Remove(o.rootKey), os.Remove(o.rootKey+".pub"))
	}
	if err := cli.WriteNew(o.rootKey+keyfile.LastEpoch, made.Statement, 0o600); err != nil {
		return err
	}
	result := map[string]any{"state": o.dir, "root": root.Public(), "root_key": o.rootKey, "root_public": o.rootKey + ".pub", "root_protected_apart": apart,
		"epoch": made.Epoch, "last_statement": o.rootKey + keyfile.LastEpoch, "tls_certificate": made.Layout.Certificate(), "audit_public": made.Layout.AuditPublic()}
	return inv.Print(result, func(w io.Writer) {
		fmt.Fprintf(w, brokerResult,
			root.Public(), o.rootKey, o.rootKey+keyfile.LastEpoch, o.rootKey+".pub", o.dir, made.Layout.Certificate(), made.Layout.AuditPublic())
		if !apart {
			fmt.Fprintln(w, brokerSharedWarning)
		}
	})
}

// protectOptions are the flags of "protect".
type protectOptions struct {
	unlock keyfile.Unlock
	own    keyfile.RootUnlock
	path   string // --root
}

func newKeygenProtect(inv *cli.Invocation) *cobra.Command {
	var o protectOptions
	c := &cobra.Command{
		Use:     protectUse,
		Short:   protectShort,
		Long:    protectLong,
		Example: protectExample,
		Args:    cobra.NoArgs,
		RunE:    inv.RunE(o.run, "root"),
	}
	c.Flags().StringVar(&o.path, "root", "", protectFlagRoot)
	o.unlock.Add(c)
	o.own.Add(c)
	return c
}

func (o *protectOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	if o.own == (keyfile.RootUnlock{}) {
		return cli.Usage(errors.New(protectNoSecret))
	}
	old, err := o.unlock.Open(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer keyfile.Wipe(old)
	now, _, err := o.own.Choose(ctx, inv.Err, old)
	if err != nil {
		return err
	}
	defer keyfile.Wipe(now)
	root, err := idfile.Protect(o.path, old, now)
	if err != nil {
		return err
	}
	return inv.Print(map[string]any{"root": root, "root_key": o.path}, func(w io.Writer) {
		fmt.Fprintf(w, protectResult, root, o.path)
	})
}

// publisherOptions are the flags of "publisher".
type publisherOptions struct {
	unlock keyfile.Unlock
	out    string // --out
}

func newKeygenPublisher(inv *cli.Invocation) *cobra.Command {
	var o publisherOptions
	c := &cobra.Command{
		Use:     publisherUse,
		Short:   publisherShort,
		Example: publisherExample,
		Args:    cobra.NoArgs,
		RunE:    inv.RunE(o.run, "out"),
	}
	c.Flags().StringVar(&o.out, "out", "", publisherFlagOut)
	o.unlock.Add(c)
	return c
}

func (o *publisherOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	u, err := o.unlock.Choose(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer keyfile.Wipe(u)
	k, err := newIdentity(identity.LevelEpoch, o.out, u)
	if err != nil {
		return err
	}
	defer k.Wipe()
	return inv.Print(map[string]any{"publisher": k.Public(), "key": o.out, "public": o.out + ".pub"}, func(w io.Writer) {
		fmt.Fprintf(w, publisherResult, k.Public(), o.out, o.out+".pub")
	})
}

// newIdentity makes an identity and writes both halves to new files.
func newIdentity(level identity.Level, path string, u idfile.Unlock) (*identity.Private, error) {
	k, err := identity.Generate(level)
	if err != nil {
		return nil, err
	}
	if err := idfile.Write(path, k, u); err != nil {
		k.Wipe()
		return nil, cli.ExplainNew(path, err)
	}
	if err := idfile.WritePublic(path+".pub", k.Public()); err != nil {
		k.Wipe()
		return nil, errors.Join(cli.ExplainNew(path+".pub", err), os.Remove(path))
	}
	return k, nil
}

func newKeygenModel(inv *cli.Invocation) *cobra.Command {
	return randomFile(inv, modelUse, modelShort,
		modelExample, chunkseal.KeySize)
}

func newKeygenCredential(inv *cli.Invocation) *cobra.Command {
	return randomFile(inv, credentialUse, credentialShort,
		credentialExample, 32)
}

func newKeygenQueue(inv *cli.Invocation) *cobra.Command {
	return randomFile(inv, queueUse, queueShort,
		queueExample, 32)
}

// randomFileOptions are the flags of a command that makes a secret, and how long it is.
type randomFileOptions struct {
	size int
	out  string // --out
}

// randomFile makes a command that writes random bytes to a new private file.
func randomFile(inv *cli.Invocation, use, short, example string, size int) *cobra.Command {
	o := randomFileOptions{size: size}
	c := &cobra.Command{Use: use, Short: short, Example: example, Args: cobra.NoArgs, RunE: inv.RunE(o.run, "out")}
	c.Flags().StringVar(&o.out, "out", "", randomFileFlagOut)
	return c
}

func (o *randomFileOptions) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	secret := make([]byte, o.size)
	defer keybuf.Wipe(secret)
	rand.Read(secret)
	if err := cli.WriteNew(o.out, secret, 0o600); err != nil {
		return err
	}
	return inv.Print(map[string]any{"file": o.out, "bytes": o.size}, func(w io.Writer) {
		fmt.Fprintf(w, randomFileResult, o.size, o.out)
	})
}
