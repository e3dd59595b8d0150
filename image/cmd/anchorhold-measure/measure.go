package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/agent/cli/keyfile"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/identity/idfile"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/image/measure"
	"github.com/anchorhold/anchorhold/keybroker/policy/publication"
	"github.com/spf13/cobra"
)

// options are the flags of the program.
type options struct {
	platform, uki      string
	key, out, made     string
	booted, bootedKind string
	unlock             keyfile.Unlock
}

func newMeasure(inv *cli.Invocation) *cobra.Command {
	var o options
	c := &cobra.Command{Use: measureUse, Short: measureShort, Long: measureLong, Example: measureExample, RunE: inv.RunE(o.run, "platform")}
	c.Flags().StringVar(&o.platform, "platform", "", flagPlatform)
	c.Flags().StringVar(&o.uki, "uki", "", flagUKI)
	c.Flags().StringVar(&o.key, "key", "", flagKey)
	c.Flags().StringVar(&o.out, "out", "", flagOut)
	c.Flags().StringVar(&o.made, "made", "", flagMade)
	c.Flags().StringVar(&o.booted, "booted", "", flagBooted)
	c.Flags().StringVar(&o.bootedKind, "booted-kind", string(evidence.KindVTPM), flagBootedKind)
	o.unlock.Add(c)
	return c
}

func (o *options) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	if (o.key == "") != (o.out == "") {
		return cli.Usage(errors.New(needsBoth))
	}
	if o.out != "" {
		if err := cli.CheckNew(o.out); err != nil { // before minutes of hashing, and a question for a passphrase
			return err
		}
	}
	s, err := o.compute()
	if err != nil {
		return cli.RefusedFor(err)
	}
	if o.key == "" {
		return inv.Print(s, func(w io.Writer) { writeStatement(w, s) })
	}
	public, err := o.sign(ctx, inv, s)
	if err != nil {
		return cli.RefusedFor(err)
	}
	return inv.Print(s, func(w io.Writer) {
		writeStatement(w, s)
		fmt.Fprintf(w, signedText, o.out, public, len(s.Values), len(s.Gaps), o.out, o.key+".pub")
	})
}

func (o *options) compute() (*publication.Statement, error) {
	made, err := cli.ParseTime("--made", o.made, time.Now())
	if err != nil {
		return nil, err
	}
	text, err := cli.ReadFile(o.platform)
	if err != nil {
		return nil, err
	}
	p, err := measure.ParsePlatform(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", o.platform, err)
	}
	if o.uki != "" {
		if p.Image.UKI, err = filepath.Abs(o.uki); err != nil {
			return nil, err
		}
	}
	s, err := measure.Compute(p, filepath.Dir(o.platform), made)
	if err != nil || o.booted == "" {
		return s, err
	}
	quoted, err := readQuoted(o.booted)
	if err != nil {
		return nil, err
	}
	return s, measure.Confirm(s, o.bootedKind, quoted)
}

// readQuoted reads registers by name.
func readQuoted(path string) (map[string]string, error) {
	raw, err := cli.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxBootedText {
		return nil, fmt.Errorf("--booted: %s has more than %d bytes", path, maxBootedText)
	}
	var quoted map[string]string
	if err := json.Unmarshal(raw, &quoted); err != nil {
		return nil, fmt.Errorf(badBooted, path, err)
	}
	return quoted, nil
}

func (o *options) sign(ctx context.Context, inv *cli.Invocation, s *publication.Statement) (identity.Public, error) {
	u, err := o.unlock.Open(ctx, inv.Err)
	if err != nil {
		return identity.Public{}, err
	}
	defer keyfile.Wipe(u)
	k, err := idfile.Read(o.key, u)
	if err != nil {
		return identity.Public{}, err
	}
	defer k.Wipe()
	signed, err := publication.Sign(k, s)
	if err != nil {
		return identity.Public{}, err
	}
	const readable = 0o644
	return k.Public(), cli.WriteNew(o.out, signed, readable)
}

// writeStatement prints inputs, values and gaps for people.
func writeStatement(w io.Writer, s *publication.Statement) {
	for _, in := range s.Inputs {
		fmt.Fprintf(w, inputText, in.Name, in.Bytes, in.SHA256)
	}
	for _, v := range s.Values {
		fmt.Fprintf(w, valueText, v.ID, v.Kind, v.Covers, v.Platform)
		for _, name := range slices.Sorted(maps.Keys(v.Registers)) {
			fmt.Fprintf(w, registerText, name, v.Registers[name], v.Checked[name])
		}
	}
	for _, g := range s.Gaps {
		fmt.Fprintf(w, gapText, strings.Join(g.Registers, ", "), g.Platform, g.Why, g.Instead)
	}
	var weak []string
	for _, v := range s.Values {
		if v.Covers == string(evidence.CoversFirmware) {
			weak = append(weak, v.ID)
		}
	}
	if len(weak) > 0 {
		fmt.Fprintf(w, weakText, strings.Join(weak, ", "))
	}
}

// showOptions are the flags of "show".
type showOptions struct{ signer string }

func newShow(inv *cli.Invocation) *cobra.Command {
	var o showOptions
	c := &cobra.Command{Use: showUse, Short: showShort, Long: showLong, Example: showExample, Args: cli.Exactly(1, measureNeeds), RunE: inv.RunE(o.run, "signer")}
	c.Flags().StringVar(&o.signer, "signer", "", flagSigner)
	return c
}

func (o *showOptions) run(_ context.Context, inv *cli.Invocation, args []string) error {
	publisher, err := keyfile.Public(o.signer)
	if err != nil {
		return fmt.Errorf("--signer: %w", err)
	}
	raw, err := cli.ReadFile(args[0])
	if err != nil {
		return err
	}
	s, err := publication.Open(raw, publisher)
	if err != nil {
		return cli.RefusedFor(fmt.Errorf("%s: %w", args[0], err))
	}
	return inv.Print(s, func(w io.Writer) {
		fmt.Fprintf(w, verifiedText, s.Name, s.Made, publisher)
		writeStatement(w, s)
	})
}
