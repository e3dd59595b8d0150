package auditlog

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

// Secrets are the key store, held against the audit log.
type Secrets struct {
	*keystore.Store
	log     *Log     // set by Check
	differs []string // in what the store is older than the log, for a reason in writing; owned by the start
}

// Check compares the key store with the audit log, from where they were compared
// last as the store says: an old copy says an old place.
func (s *Secrets) Check(log *Log) error {
	s.log = log
	from, err := s.Audited()
	if err != nil {
		return err
	}
	if from > s.log.Size() { // a log that was begun anew
		from = 0
	}
	said, unknown, err := s.said(from)
	if err != nil {
		return err
	}
	s.differs, err = s.differences(said)
	for _, at := range unknown {
		s.differs = append(s.differs, fmt.Sprintf("what record %d says, which was archived", at))
	}
	switch reason := s.log.cfg.RestoredStore; {
	case err != nil || len(s.differs) == 0:
		return err
	case reason != "":
		s.log.cfg.Logger.Warn("the key store is older than the audit log, and is served", "differences", len(s.differs), "first", s.differs[0], "reason", reason)
		return nil
	}
	list := slices.Clone(s.differs[:min(len(s.differs), maxNamed)])
	if more := len(s.differs) - len(list); more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	return refusal.New(ReasonStoreRolledBack, "the key store is older than the audit log: %s; restore the newer %s or, if it is lost for good, give the reason in secrets.restored_store",
		strings.Join(list, "; "), s.Path())
}

// said returns the furthest state of each version that the log says anything of, and
// the records that nobody can read any more.
func (s *Secrets) said(from uint64) (said map[operator.SecretVersion]keystore.State, unknown []uint64, err error) {
	said = map[operator.SecretVersion]keystore.State{}
	for _, q := range operator.SecretQueries(from) {
		found, err := s.log.Find(q)
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
func (s *Secrets) differences(said map[operator.SecretVersion]keystore.State) (list []string, err error) {
	for v, state := range said {
		info, err := s.Stat(context.Background(), v.Name, v.Version)
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

// Agree has the log say that an older store is served, and the store that it was
// compared with the log so far.
func (s *Secrets) Agree(ctx context.Context) error {
	if len(s.differs) > 0 {
		text := fmt.Sprintf("%s: %s", s.log.cfg.RestoredStore, strings.Join(s.differs, "; "))
		if err := s.log.Event(ctx, "secrets-restored", text[:min(len(text), maxDiffText)]); err != nil {
			return err
		}
	}
	return s.KeepAudited(ctx)
}

// KeepAudited has the store say up to where it has what the log says, so that records may be
// archived and taken away. What it has is told to the log afterwards, and never before.
func (s *Secrets) KeepAudited(ctx context.Context) error {
	return s.SetAudited(ctx, s.log.Size())
}
