// Package collateral has the commands that fill, carry and show a directory of vendors'
// certificates, revocation lists and TCB information.
//
// They work on the directory itself, beside a broker that uses it: the library that the broker
// calls verifies everything up to the vendors' roots and replaces nothing with what is older.
// Only fetch uses the network.
package collateral

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/appraise"
	"github.com/anchorhold/anchorhold/keybroker/appraise/tdx"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/depot"
	"github.com/anchorhold/anchorhold/keybroker/collateral/intel"
	"github.com/spf13/cobra"
)

// The words of the family.
const (
	use   = "collateral"
	short = "Fetch, carry and show the vendors' certificates, revocation lists and TCB information"
	long  = `A broker judges evidence with what AMD and Intel publish: certificates of chips and their
authorities, revocation lists, and which firmware is current. These commands keep it in a
directory, which a running broker may be using at the same time.

Items are named as in
  amd-chain/Milan/vcek                      authorities of a product line (vlek: of VLEKs)
  amd-crl/Milan                             its revocation list
  amd-vcek/Milan/HWID/TCB                   a chip's certificate for one firmware version
  intel-tdx/FMSPC/platform/standard         all that a TDX platform is judged with`
	noDirectory = "--dir: there is no directory %s: make it first, empty (mkdir)"
	flagDir     = "directory of collateral, which must exist"
)

// New makes the command.
func New(inv *cli.Invocation) *cobra.Command {
	return cli.Subcommands(use, short, long, newFetch(inv), newExport(inv), newImport(inv), newShow(inv))
}

// directory are the flags that all commands have.
type directory struct {
	dir      string // --dir
	software softwareRoot
}

func (d *directory) add(c *cobra.Command) {
	c.Flags().StringVar(&d.dir, "dir", "", flagDir)
	d.software.add(c)
}

// open opens the directory. These commands verify AMD's documents by the roots that are pinned;
// revocation is asked where evidence is judged.
func (d *directory) open(o depot.Options) (*depot.Depot, error) {
	if _, err := os.Stat(d.dir); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf(noDirectory, d.dir)
	}
	v, err := appraise.New(appraise.Options{WithoutRevocation: true})
	if err != nil {
		return nil, err
	}
	if err := d.software.allow(v); err != nil {
		return nil, err
	}
	o.Dir, o.AMD, o.TDX = d.dir, v, intel.Check(tdx.Roots{})
	return depot.Open(o)
}

// result is what became of one item.
type result struct {
	Key    collateral.Key `json:"key"`
	Status string         `json:"status"` // "fetched", "stored", "kept", "refused" or "failed"
	Ends   *time.Time     `json:"ends,omitempty"`
	Reason refusal.Reason `json:"reason,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// failureOf is the error beside results, for scripts; nil without one.
func failureOf(err error) *cli.Failure {
	if err == nil {
		return nil
	}
	f := cli.FailureOf(err)
	return &f
}

// Statuses of a result.
const (
	statusFetched = "fetched"
	statusStored  = "stored"
	statusKept    = "kept"
	statusRefused = "refused"
	statusFailed  = "failed"
)

// failed describes an item that was not got. A source that is away is no refusal.
func failed(key collateral.Key, reason refusal.Reason, message string) result {
	r := result{Key: key, Status: statusRefused, Reason: reason, Error: message}
	switch reason {
	case "", collateral.ReasonUnavailable, collateral.ReasonBusy, collateral.ReasonFull:
		r.Status = statusFailed
	}
	return r
}

func printResults(w io.Writer, results []result) {
	for _, r := range results {
		line := r.Status + strings.Repeat(" ", max(1, 9-len(r.Status))) + r.Key.String()
		if r.Ends != nil {
			line += ", until " + r.Ends.UTC().Format(time.RFC3339)
		}
		if r.Error != "" {
			line += ": " + r.Error
		}
		fmt.Fprintln(w, line)
	}
}

// verdict is the error of results among which some failed: a refusal if any was refused.
func verdict(results []result) error {
	var bad, refused int
	var first result
	for _, r := range results {
		if r.Status != statusRefused && r.Status != statusFailed {
			continue
		}
		if bad++; bad == 1 || refused == 0 && r.Status == statusRefused {
			first = r
		}
		if r.Status == statusRefused {
			refused++
		}
	}
	if bad == 0 {
		return nil
	}
	err := fmt.Errorf("%d of %d items were not stored; first %s: %s", bad, len(results), first.Key, first.Error)
	if refused > 0 {
		return cli.Named(string(first.Reason), fmt.Errorf("%w: %w", cli.ErrRefused, err))
	}
	return cli.Named(string(first.Reason), err)
}
