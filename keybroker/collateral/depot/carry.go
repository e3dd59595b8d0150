package depot

import (
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/collateral"
	"github.com/anchorhold/anchorhold/keybroker/collateral/bundle"
)

// Export writes what is kept, or of that only what keep selects, into a bundle. What ended, is
// damaged or does not verify is left out and returned: an importer would refuse it.
func (d *Depot) Export(w io.Writer, signer *identity.Private, keep func(collateral.Key) bool) (list bundle.List, leftOut []collateral.Key, err error) {
	keys, err := d.store.Keys()
	if err != nil {
		return bundle.List{}, nil, err
	}
	keys = slices.DeleteFunc(keys, func(k collateral.Key) bool {
		if keep != nil && !keep(k) {
			return true
		}
		it, err := d.kept(k)
		if err == nil {
			err = d.current(it)
		}
		if err != nil {
			leftOut = append(leftOut, k)
		}
		return err != nil
	})
	list, err = bundle.Write(w, keys, d.store.Get, signer, d.opts.Now())
	return list, leftOut, err
}

// Outcome is what became of one item of a bundle.
type Outcome struct {
	Key collateral.Key `json:"key"`
	// Stored says that the item was new or newer; else it was kept already, or refused.
	Stored bool `json:"stored"`
	// Reason and Error say why it was refused.
	Reason refusal.Reason `json:"reason,omitempty"`
	Error  string         `json:"error,omitempty"`
}

// Import reads a bundle that one of the trusted identities signed. Each item is verified up to its
// vendor's root and stored unless it is older than what is kept; a refused item does not keep the
// others out. The error is that of the bundle itself, or of the disk.
func (d *Depot) Import(r io.Reader, trusted []identity.Public) (list bundle.List, outcomes []Outcome, err error) {
	list, err = bundle.Read(r, trusted, func(it collateral.Item) error {
		stored, err := d.accept(it)
		o := Outcome{Key: it.Key, Stored: stored}
		if err != nil {
			reason, refused := refusal.ReasonOf(err)
			if !refused {
				return fmt.Errorf("store %s: %w", it.Key, err)
			}
			o.Reason, o.Error = reason, err.Error()
		}
		outcomes = append(outcomes, o)
		return nil
	})
	return list, outcomes, err
}

// accept verifies an item from elsewhere and stores it.
func (d *Depot) accept(it collateral.Item) (stored bool, err error) {
	now := d.opts.Now()
	if it.Fetched.After(now) {
		it.Fetched = now // it would never be renewed
	}
	var older error
	if it.Key.Kind() == collateral.KindTDX {
		if it, older, err = d.composed(it); err != nil {
			return false, err
		}
	}
	if err := d.verify(it); err != nil {
		return false, errors.Join(err, older)
	}
	if err := d.current(it); err != nil {
		return false, err
	}
	stored, err = d.store.Put(it)
	return stored, errors.Join(err, older)
}
