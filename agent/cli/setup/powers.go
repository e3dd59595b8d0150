package setup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/zk/ceremony"
	"github.com/anchorhold/anchorhold/crypto/zk/circuits"
	"github.com/anchorhold/anchorhold/crypto/zk/keyset"
	"github.com/anchorhold/anchorhold/crypto/zk/plonkprove"
	"github.com/anchorhold/anchorhold/crypto/zk/ptau"
	"github.com/anchorhold/anchorhold/crypto/zk/statement"
	"github.com/spf13/cobra"
)

// The words of powers of tau.
const (
	powersFlagPtau       = "public powers-of-tau file, as snarkjs writes it"
	powersFlagPtauDigest = "digest that its ceremony published: BLAKE2b (128 hexadecimal digits) or SHA-256 (64)"
	powersNeeds          = "--ptau, a powers-of-tau file, and --ptau-digest, the digest that its ceremony published, are required: whoever knows the file's secret can forge proofs"
	powersReading        = "reading %s: 2^%d of a ceremony's 2^%d powers, %d contributions ...\n"
	powersOtherFile      = "%w: %s is not the file that --ptau-digest names: its BLAKE2b is %x, its SHA-256 %x"
	setupCompiling       = "compiling the circuit ..."
	setupMaking          = "making keys for %d constraints ...\n"
	powersFirstPhase     = "; its first phase is that of "
)

// powersChoice is a public powers-of-tau file, and what it is for.
type powersChoice struct {
	plonk        bool
	path, digest string
}

func (p *powersChoice) flags(c *cobra.Command) {
	c.Flags().StringVar(&p.path, "ptau", "", powersFlagPtau)
	c.Flags().StringVar(&p.digest, "ptau-digest", "", powersFlagPtauDigest)
}

// open opens the file and holds it against the published digest.
func (p *powersChoice) open(ctx context.Context, told io.Writer) (*os.File, *ptau.File, ptau.Digests, error) {
	fail := func(err error) (*os.File, *ptau.File, ptau.Digests, error) { return nil, nil, ptau.Digests{}, err }
	want, err := hex.DecodeString(strings.TrimSpace(p.digest))
	if p.path == "" || err != nil || len(want) != 32 && len(want) != 64 {
		return fail(cli.Usage(errors.New(powersNeeds)))
	}
	f, err := os.Open(p.path)
	if err != nil {
		return fail(err)
	}
	info, err := f.Stat()
	if err != nil {
		return fail(errors.Join(err, f.Close()))
	}
	file, err := ptau.Open(f, info.Size())
	if err != nil {
		return fail(errors.Join(fmt.Errorf("%w: %s: %w", cli.ErrRefused, p.path, err), f.Close()))
	}
	fmt.Fprintf(told, powersReading, p.path, file.Power, file.CeremonyPower, file.Contributions)
	d, err := file.Digests(ctx)
	if err != nil {
		return fail(errors.Join(err, f.Close()))
	}
	if w := string(want); w != string(d.SHA256[:]) && w != string(d.BLAKE2b[:]) {
		return fail(errors.Join(fmt.Errorf(powersOtherFile, cli.ErrRefused, p.path, d.BLAKE2b, d.SHA256), f.Close()))
	}
	return f, file, d, nil
}

// setup makes keys of PLONK.
func (p *powersChoice) setup(ctx context.Context, inv *cli.Invocation, choice *circuitChoice, args []string, out string) error {
	began := time.Now()
	f, file, digests, err := p.open(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	fmt.Fprintln(inv.Err, setupCompiling)
	choice.plonk = true
	circuit, r, err := choice.compile(args)
	if err != nil {
		return err
	}
	fmt.Fprintf(inv.Err, setupMaking, circuit.Constraints())
	keys, err := plonkprove.Setup(ctx, circuit.System, file, func(what string) { fmt.Fprintf(inv.Err, "%s ...\n", what) })
	if errors.Is(err, ptau.ErrPower) || errors.Is(err, ptau.ErrRefused) {
		return fmt.Errorf("%w: %s: %w", cli.ErrRefused, p.path, err)
	}
	if err != nil {
		return err
	}
	r.System, r.Circuit, r.Library, r.Ceremony = statement.PLONK, circuit.Digest, circuits.Library, digests.SHA256
	set, err := keyset.Save(out, r, func(w io.Writer) error { _, err := circuit.WriteTo(w); return err }, keys.WriteProving, keys.Verifying())
	if err != nil {
		return err
	}
	return printSet(inv, set, circuit, time.Since(began))
}

// begin makes the directory with the first phase of the file.
func (p *powersChoice) begin(ctx context.Context, inv *cli.Invocation, circuit *circuits.Circuit, r statement.Record, out string) error {
	f, file, _, err := p.open(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	open, err := ceremony.BeginUniversal(ctx, out, circuit, r.Inference, r.Gradient, file, tell(inv.Err))
	if errors.Is(err, ptau.ErrPower) || errors.Is(err, ptau.ErrRefused) {
		return fmt.Errorf("%w: %s: %w", cli.ErrRefused, p.path, err)
	}
	if err != nil {
		return err
	}
	return printCeremony(inv, open, ceremonyBeginDone+out+powersFirstPhase+p.path)
}

// verify sees that a ceremony's first phase is from the file.
func (p *powersChoice) verify(ctx context.Context, inv *cli.Invocation, open *ceremony.Ceremony) error {
	f, file, _, err := p.open(ctx, inv.Err)
	if err != nil {
		return err
	}
	defer f.Close() // read only
	return open.VerifyPowers(ctx, file)
}
