package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/keystore"
	"github.com/anchorhold/anchorhold/keybroker/operator"
)

// ReasonStoreRolledBack means that the key store is older than the audit log: it lacks what
// was stored, or has what was retired or destroyed.
const ReasonStoreRolledBack refusal.Reason = "key-store-rolled-back"

const (
	maxNamed    = 20      // differences that an error names
	maxDiffText = 3 << 10 // bytes of them in a record
)

// checkSecrets compares the key store with the audit log, from where they were compared
// last as the store says: an old copy says an old place.
func (d *daemon) checkSecrets() error {
	from, err := d.secrets.Audited()
	if err != nil {
		return err
	}
	if from > d.log.Size() { // a log that was begun anew
		from = 0
	}
	said, unknown, err := d.secretsSaid(from)
	if err != nil {
		return err
	}
	d.differs, err = d.differences(said)
	for _, at := range unknown {
		d.differs = append(d.differs, fmt.Sprintf("what record %d says, which was archived", at))
	}
	switch reason := d.opts.Config.Secrets.RestoredStore; {
	case err != nil || len(d.differs) == 0:
		return err
	case reason != "":
		d.opts.Logger.Warn("the key store is older than the audit log, and is served", "differences", len(d.differs), "first", d.differs[0], "reason", reason)
		return nil
	}
	list := slices.Clone(d.differs[:min(len(d.differs), maxNamed)])
	if more := len(d.differs) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return refusal.New(ReasonStoreRolledBack, "the key store is older than the audit log: %s; put back the newer %s, or, if it is lost for good, write the reason in secrets.restored_store of the configuration",
		strings.Join(list, "; "), d.layout.Keystore())
}

// secretsSaid returns the furthest state of each version that the log says anything of, and
// the records that nobody can read any more.
func (d *daemon) secretsSaid(from uint64) (said map[operator.SecretVersion]keystore.State, unknown []uint64, err error) {
	said = map[operator.SecretVersion]keystore.State{}
	for _, q := range operator.SecretQueries(from) {
		found, err := d.log.Find(q)
		if err != nil {
			return nil, nil, err
		}
		for _, f := range found {
			if f.Record == nil {
				unknown = append(unknown, f.Index)
				continue
			}
			r, err := operator.ParseSecretRecord(*f.Record)
			if err != nil {
				return nil, nil, fmt.Errorf("record %d: %w", f.Index, err)
			}
			said[r.SecretVersion] = max(said[r.SecretVersion], r.State)
		}
	}
	return said, unknown, nil
}

// differences are the versions of which the store is behind what the log says, in words.
func (d *daemon) differences(said map[operator.SecretVersion]keystore.State) (list []string, err error) {
	for v, state := range said {
		info, err := d.secrets.Stat(context.Background(), v.Name, v.Version)
		switch {
		case errors.Is(err, keystore.ErrNotFound): // a store keeps the numbers of what it destroyed
			list = append(list, fmt.Sprintf("%s version %d is missing", v.Name, v.Version))
		case err != nil:
			return nil, err
		case info.State < state:
			list = append(list, fmt.Sprintf("%s version %d is %s, and was %s", v.Name, v.Version, info.State, state))
		}
	}
	slices.Sort(list)
	return list, nil
}

// agreeSecrets has the log say that an older store is served, and the store that it was
// compared with the log so far.
func (d *daemon) agreeSecrets(ctx context.Context) error {
	if len(d.differs) > 0 {
		text := fmt.Sprintf("%s: %s", d.opts.Config.Secrets.RestoredStore, strings.Join(d.differs, "; "))
		if err := d.record(ctx, "secrets-restored", text[:min(len(text), maxDiffText)]); err != nil {
			return err
		}
	}
	return d.keepAudited(ctx)
}

// keepAudited has the store say up to where it has what the log says, so that records may be
// archived and taken away. What it has is told to the log afterwards, and never before.
func (d *daemon) keepAudited(ctx context.Context) error {
	return d.secrets.SetAudited(ctx, d.log.Size())
}
