package collateral

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/depot"
	"github.com/spf13/cobra"
)

// The words of "fetch".
const (
	fetchUse   = "fetch [KEY...] --dir DIR"
	fetchShort = "Fetch collateral from the vendors or a mirror, and renew what is there"
	fetchLong  = `Fetches what the flags and keys name. Without any it renews everything in the directory
except the certificates of chips, which never change.

AMD's service answers only a few requests in ten minutes; fetch waits as long as it asks
for, so many chips take hours. Interrupt it at any time: what was fetched is stored, and
certificates that are stored are not fetched again.

Exit status: 0 all is stored, 1 a source did not answer, 2 wrong command line, 3 a document
was refused, with the reason.`
	fetchExample = "  anchorhold collateral fetch --dir /var/lib/anchorhold/collateral --product Milan --product Genoa\n" +
		"  anchorhold collateral fetch --dir collateral --chips chips.txt --kds https://mirror.example/kds\n" +
		"  anchorhold collateral fetch --dir collateral --fmspc 90c06f000000 --ca platform --update early"
	fetchFlagProduct = "fetch the authorities and the revocation list of a product line: Milan, Genoa or Turin (repeatable)"
	fetchFlagChips   = "file with a chip on each line, PRODUCT/HWID/TCB, whose certificates are fetched"
	fetchFlagFMSPC   = "fetch what TDX platforms of this FMSPC are judged with: 12 hexadecimal digits (repeatable)"
	fetchFlagCA      = "authority of the platforms' PCK certificates: platform or processor"
	fetchFlagUpdate  = "which TCB information: standard, early, or a TCB evaluation data number"
	fetchFlagKDS     = "base URL of a mirror of AMD's service (default https://kdsintf.amd.com)"
	fetchFlagPCS     = "base URL of a mirror of Intel's service (default https://api.trustedservices.intel.com)"
	fetchFlagPCCS    = "base URL of a caching service (PCCS) to ask in place of Intel's"
	fetchNothing     = "nothing to renew: the directory holds no lists, authorities or TCB information; name what to fetch"
	fetchProgress    = "%d of %d: %s\n"
	chipsLineInvalid = "%s, line %d: %w"
	fmspcInvalid     = "--fmspc %q: want 12 hexadecimal digits"
)

// fetchOptions are the flags of "fetch".
type fetchOptions struct {
	directory
	products       []string // --product
	chips          string   // --chips
	fmspcs         []string // --fmspc
	ca, update     string   // --ca, --update
	kds, pcs, pccs string   // --kds, --pcs, --pccs
	keys           []collateral.Key
}

// fetched is what "fetch --json" prints.
type fetched struct {
	Items []result     `json:"items"`
	Error *cli.Failure `json:"error,omitempty"`
}

func newFetch(inv *cli.Invocation) *cobra.Command { return (&fetchOptions{}).command(inv) }

func (o *fetchOptions) command(inv *cli.Invocation) *cobra.Command {
	c := &cobra.Command{Use: fetchUse, Short: fetchShort, Long: fetchLong, Example: fetchExample, RunE: inv.RunE(o.run, "dir"), Args: cobra.ArbitraryArgs}
	o.add(c)
	f := c.Flags()
	f.StringSliceVar(&o.products, "product", nil, fetchFlagProduct)
	f.StringVar(&o.chips, "chips", "", fetchFlagChips)
	f.StringSliceVar(&o.fmspcs, "fmspc", nil, fetchFlagFMSPC)
	f.StringVar(&o.ca, "ca", string(collateral.CAPlatform), fetchFlagCA)
	f.StringVar(&o.update, "update", collateral.UpdateStandard, fetchFlagUpdate)
	f.StringVar(&o.kds, "kds", "", fetchFlagKDS)
	f.StringVar(&o.pcs, "pcs", "", fetchFlagPCS)
	f.StringVar(&o.pccs, "pccs", "", fetchFlagPCCS)
	return c
}

func (o *fetchOptions) run(ctx context.Context, inv *cli.Invocation, args []string) error {
	if err := o.wanted(args); err != nil {
		return err
	}
	opts := depot.Options{KDS: o.kds, PCS: o.pcs, PCCS: o.pccs}
	d, err := o.open(opts)
	if reason, _ := refusal.ReasonOf(err); reason == collateral.ReasonSource {
		return cli.Usage(err)
	} else if err != nil {
		return err
	}
	defer d.Close()
	if len(args) == 0 && len(o.keys) == 0 {
		st, err := d.Status()
		if err != nil {
			return err
		}
		for _, it := range st.Items {
			o.keys = append(o.keys, it.Key)
		}
	}
	results, err := o.fetch(ctx, inv, d)
	if err != nil {
		return err
	}
	bad := verdict(results)
	if err := inv.Print(fetched{results, failureOf(bad)}, func(w io.Writer) {
		printResults(w, results)
		if len(results) == 0 {
			fmt.Fprintln(w, fetchNothing)
		}
	}); err != nil {
		return err
	}
	return bad
}

// fetch fetches one item after the other: the sources allow no more.
func (o *fetchOptions) fetch(ctx context.Context, inv *cli.Invocation, d *depot.Depot) ([]result, error) {
	results := []result{}
	for i, k := range o.keys {
		if !inv.AsJSON && len(o.keys) > 1 {
			fmt.Fprintf(inv.Err, fetchProgress, i+1, len(o.keys), k)
		}
		var err error
		r := result{Key: k, Status: statusFetched}
		if k.Kind() == collateral.KindVCEK {
			_, err = d.VCEK(ctx, k.Chip()) // a kept one never changes
		} else {
			var it collateral.Item
			if it, err = d.Fetch(ctx, k); err == nil {
				stamps, serr := it.Stamps()
				if ends := collateral.Ends(stamps); serr == nil {
					r.Ends = &ends
				}
			}
		}
		if ctx.Err() != nil {
			return results, ctx.Err()
		}
		if err != nil {
			reason, _ := refusal.ReasonOf(err)
			r = failed(k, reason, err.Error())
		}
		results = append(results, r)
	}
	return results, nil
}

// wanted reads what the command line names. Authorities come first.
func (o *fetchOptions) wanted(args []string) error {
	add := func(k collateral.Key, err error) error {
		if err != nil {
			return cli.Usage(err)
		}
		if !slices.Contains(o.keys, k) {
			o.keys = append(o.keys, k)
		}
		return nil
	}
	for _, p := range o.products {
		product := evidence.Product(p)
		for _, key := range []func() (collateral.Key, error){
			func() (collateral.Key, error) { return collateral.ChainKey(product, false) },
			func() (collateral.Key, error) { return collateral.ChainKey(product, true) },
			func() (collateral.Key, error) { return collateral.CRLKey(product) },
		} {
			if err := add(key()); err != nil { // one word is wrong once
				return err
			}
		}
	}
	for _, text := range o.fmspcs {
		raw, err := hex.DecodeString(strings.ToLower(text))
		if err != nil || len(raw) != 6 {
			return cli.Usage(fmt.Errorf(fmspcInvalid, text))
		}
		p := collateral.Platform{FMSPC: [6]byte(raw), CA: collateral.CA(o.ca), Update: o.update}
		if err := add(p.Key()); err != nil {
			return err
		}
	}
	for _, text := range args {
		if err := add(collateral.ParseKey(text)); err != nil {
			return err
		}
	}
	if o.chips == "" {
		return nil
	}
	data, err := cli.ReadFile(o.chips)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(lines.Text())
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		k, err := collateral.ParseKey(string(collateral.KindVCEK) + "/" + text)
		if err != nil {
			return cli.Usage(fmt.Errorf(chipsLineInvalid, o.chips, n, err))
		}
		if err := add(k, nil); err != nil {
			return err
		}
	}
	return lines.Err()
}
