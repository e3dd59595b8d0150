// Package release has the commands that check a download and sign a release.
//
// It uses no network: whoever checks a release has its files and, from another source, the
// publisher's public key.
package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/agent/cli/manual"
	"github.com/anchorhold/anchorhold/crypto/filelist"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/crypto/signednote"
	"github.com/spf13/cobra"
)

// publicName is the file of a release with its publisher's public key.
const publicName = "publisher.pub"

// New makes the command.
func New(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands("release", short, long, newVerify(inv), newSign(inv), newVKey(inv), manual.New(inv))
}

// verifyOptions are the flags and arguments of `release verify`.
type verifyOptions struct {
	publisher string   // text or file
	list      string   // "" for the one in the directory
	paths     []string // the directory, or files
}

// verified is what `release verify --json` prints.
type verified struct {
	Version   string          `json:"version"`
	Commit    string          `json:"commit"`
	Publisher identity.Public `json:"publisher"`
	Files     []string        `json:"files"`
}

func newVerify(inv *cli.Invocation) *cobra.Command {
	var o verifyOptions
	c := &cobra.Command{Use: verifyUse, Short: verifyShort, Long: verifyLong, Example: verifyExample,
		RunE: inv.RunE(o.run, "publisher"),
		Args: func(c *cobra.Command, args []string) error {
			if o.list != "" && len(args) == 0 {
				return cli.Usage(errors.New(needsFiles))
			} else if o.list != "" {
				return nil
			}
			return cli.Exactly(1, needsDirectory)(c, args)
		},
	}
	c.Flags().StringVar(&o.publisher, "publisher", "", flagPublisher)
	c.Flags().StringVar(&o.list, "list", "", flagList)
	return c
}

func (o *verifyOptions) run(_ context.Context, inv *cli.Invocation, args []string) error {
	o.paths = args
	v, err := o.check()
	if err != nil {
		return cli.RefusedFor(err)
	}
	return inv.Print(v, v.print)
}

// check checks the files that the options name.
func (o *verifyOptions) check() (v verified, err error) {
	if v.Publisher, err = keyfile.Public(o.publisher); err != nil {
		return verified{}, err
	}
	var l filelist.List
	if o.list == "" {
		if l, err = filelist.Check(o.paths[0], v.Publisher); err != nil {
			return verified{}, err
		}
		v.Files = l.Names()
	} else {
		if l, err = filelist.OpenFile(o.list, v.Publisher); err != nil {
			return verified{}, err
		}
		for _, path := range o.paths {
			if err := l.CheckFile(path); err != nil {
				return verified{}, err
			}
			v.Files = append(v.Files, filepath.Base(path))
		}
	}
	v.Version, v.Commit = l.Version, l.Commit
	return v, nil
}

func (v verified) print(w io.Writer) {
	fmt.Fprintf(w, verifiedText, v.Version, v.Commit, v.Publisher)
	for _, name := range v.Files {
		fmt.Fprintf(w, fileText, name)
	}
}

// signOptions are the flags and the argument of `release sign`.
type signOptions struct {
	key, tag, commit string
	unlock           keyfile.Unlock
	dir              string
}

func newSign(inv *cli.Invocation) *cobra.Command {
	var o signOptions
	c := &cobra.Command{Use: signUse, Short: signShort, Long: signLong, Example: signExample, Args: cli.Exactly(1, needsDirectory),
		RunE: inv.RunE(o.run, "key", "tag", "commit"),
	}
	c.Flags().StringVar(&o.key, "key", "", flagKey)
	c.Flags().StringVar(&o.tag, "tag", "", flagTag)
	c.Flags().StringVar(&o.commit, "commit", "", flagCommit)
	o.unlock.Add(c)
	return c
}

func (o *signOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	o.dir = args[0]
	l, err := o.list() // before anybody is asked for a passphrase
	if err != nil {
		return cli.RefusedFor(err)
	}
	u, err := o.unlock.Open(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer keyfile.Wipe(u)
	k, err := idfile.Read(o.key, u)
	if err != nil {
		return err
	}
	defer k.Wipe()
	if err := o.sign(k, l); err != nil {
		return cli.RefusedFor(err)
	}
	return inv.Print(verified{l.Version, l.Commit, k.Public(), l.Names()}, func(w io.Writer) {
		fmt.Fprintf(w, signedText, l.Version, len(l.Files), o.path(filelist.NoteName), k.Public(), o.path(publicName))
	})
}

func (o *signOptions) path(name string) string { return filepath.Join(o.dir, name) }

// list is what will be signed: the files of the directory, if they are those of SHA256SUMS. A
// file that was added or damaged on the way from the build machine is not signed.
func (o *signOptions) list() (filelist.List, error) {
	for _, name := range []string{filelist.NoteName, publicName} {
		if err := cli.CheckNew(o.path(name)); err != nil {
			return filelist.List{}, err
		}
	}
	l, err := filelist.Of(o.dir)
	if err != nil {
		return filelist.List{}, err
	}
	l.Version, l.Commit = o.tag, o.commit
	sums, err := os.ReadFile(o.path(filelist.SumsName))
	if err != nil {
		return filelist.List{}, err
	}
	if !bytes.Equal(sums, l.Sums()) {
		return filelist.List{}, filelist.ErrSums(o.path(filelist.SumsName))
	}
	return l, nil
}

// sign writes the signed list and the public key beside the files.
func (o *signOptions) sign(k *identity.Private, l filelist.List) error {
	signed, err := filelist.Sign(k, l)
	if err != nil {
		return err
	}
	if err := idfile.WritePublic(o.path(publicName), k.Public()); err != nil {
		return err
	}
	return cli.WriteNew(o.path(filelist.NoteName), signed, 0o644)
}

// vkeyOptions are the flags of `release vkey`.
type vkeyOptions struct {
	publisher string // text or file
}

func newVKey(inv *cli.Invocation) *cobra.Command {
	var o vkeyOptions
	c := &cobra.Command{Use: vkeyUse, Short: vkeyShort, Long: vkeyLong, Example: vkeyExample, Args: cobra.NoArgs, RunE: inv.RunE(o.run, "publisher")}
	c.Flags().StringVar(&o.publisher, "publisher", "", flagPublisher)
	return c
}

func (o *vkeyOptions) run(_ context.Context, inv *cli.Invocation, _ []string) error {
	public, err := keyfile.Public(o.publisher)
	if err != nil {
		return err
	}
	vkey, err := signednote.VerifierKey(filelist.Origin(public), public)
	if err != nil {
		return err
	}
	return inv.Print(map[string]string{"vkey": vkey}, func(w io.Writer) { fmt.Fprintln(w, vkey) })
}
