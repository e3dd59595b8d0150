package rounds

import (
	"context"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/chunkseal"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
)

// accountPrefix marks the ledgers of accounts in a store: no name that was typed before there
// were accounts begins with it, for those were printable.
const accountPrefix = "\x01"

// ledgerOf is the name of an account's ledger in a store.
func ledgerOf(a federation.Account) string { return accountPrefix + string(a) }

// maxSealedPart bounds what is sent of a sealed model: the part of some 35 GiB in chunks of
// 256 KiB.
const maxSealedPart = 5 << 20

// account names the ledger that a round is charged to. What an operator types chooses
// none: for a model and for a dataset a publisher signed, whom the configuration names.
func (s *Service) account(spec Spec) (federation.Account, error) {
	switch {
	case spec.Sealed != nil && spec.Dataset != nil:
		return "", refusal.New(ReasonSpec, "a round is charged to either a model or a dataset, not to both")
	case spec.Sealed != nil:
		return s.sealedAccount(spec.Sealed)
	case spec.Dataset != nil:
		d, err := federation.VerifyDataset(spec.Dataset, s.cfg.Publishers)
		return federation.DatasetAccount(d.ID), err
	}
	return federation.BrokerAccount, nil
}

// sealedAccount is the account of a model by the publisher's signature over its name.
func (s *Service) sealedAccount(part []byte) (federation.Account, error) {
	if len(part) > maxSealedPart {
		return "", refusal.New(ReasonSpec, "got %d bytes of a sealed model, at most %d are accepted; sign for a dataset instead", len(part), maxSealedPart)
	}
	p, err := chunkseal.InspectPart(part)
	if err != nil {
		return "", refusal.New(ReasonAccount, "no sealed model: %v", err)
	}
	for _, publisher := range s.cfg.Publishers {
		if p.Verify(publisher) == nil {
			return federation.SealedAccount(digest.Digest(publisher.ID()), p.Name), nil
		}
	}
	return "", refusal.New(ReasonAccount, "none of the publishers that this broker's configuration names signed the sealed model %q (rounds.dataset_publishers); without a model the round is charged to the broker's one account", p.Name)
}

// manyLogged is how many charges of one account the log finds at once. With more, a store
// that has fewer of them is not filled up from the log.
const manyLogged = 1024

// spending is what was charged to an account.
type spending struct {
	own     []Charge // its ledger in the store, in its order
	counted []Charge // all that counts
	unseen  []Charge // the store has them, and the audit log does not
	lost    []Charge // this broker made them, as the audit log says, and the store does not have them
}

// spent adds up an account: its own charges, and what earlier versions charged to typed
// names and to models by their ids.
func (s *Service) spent(ctx context.Context, a federation.Account) (sp spending, err error) {
	if sp, err = s.charged(ctx, a); err != nil {
		return sp, err
	}
	names, err := s.formerLedgers(ctx)
	if err != nil {
		return sp, err
	}
	for _, name := range names {
		model, ofModel := strings.CutPrefix(name, accountPrefix)
		to, attributed := s.cfg.Former[model]
		// Rounds that an earlier version opened for one model close as they would have: other
		// models' charges did not count there.
		if name == ledgerOf(a) || attributed && to != a || !attributed && ofModel && a.Former() {
			continue
		}
		former := spending{}
		if ofModel {
			former, err = s.charged(ctx, federation.Account(model))
		} else {
			former.counted, err = s.cfg.Store.Charges(ctx, name)
		}
		if err != nil {
			return sp, err
		}
		sp.counted = append(sp.counted, former.counted...)
	}
	return sp, nil
}

// charged are the charges of one account: its ledger, and what the audit log says was
// charged and an old store does not know. The log is asked first: what is in it by then was
// in the store before.
func (s *Service) charged(ctx context.Context, a federation.Account) (sp spending, err error) {
	log, err := s.chargesOf(ctx, a)
	if err != nil {
		return sp, err
	}
	if sp.own, err = s.cfg.Store.Charges(ctx, ledgerOf(a)); err != nil {
		return sp, err
	}
	sp.counted = slices.Clone(sp.own)
	have, known := map[digest.RoundID]Charge{}, map[digest.RoundID]bool{}
	for _, c := range sp.own {
		have[c.Round] = c.placeless()
	}
	add := func(logged []Charge) (missing []Charge, err error) {
		for _, c := range logged {
			known[c.Round] = true
			stored, there := have[c.Round]
			if there && stored != c.placeless() {
				return nil, damaged("the charge of round %s to %s is another than the audit log has", c.Round, a)
			}
			if !there {
				have[c.Round], missing = c.placeless(), append(missing, c)
			}
		}
		sp.counted = append(sp.counted, missing...)
		return missing, nil
	}
	if sp.lost, err = add(log.own); err != nil {
		return sp, err
	}
	missing, err := add(log.seen)
	if err != nil {
		return sp, err
	}
	all := len(log.own) + log.away
	switch {
	case len(sp.own) < log.away || all >= manyLogged && len(sp.own) < all:
		return sp, refusal.New(ReasonRecord, "the audit log has %d charges to %s, %d of them in archived segments that are missing, but the store has %d: restore the segments or a newer store", all, a, log.away, len(sp.own))
	case len(missing) > 0 && s.cfg.Privacy.RestoredStore == "":
		return sp, refusal.New(ReasonLedger, "the store lacks charges to %s that other brokers made: restore a newer store, or close these rounds again where they were opened: %s; if neither is possible, rounds.privacy.restored_store continues with what this broker saw", a, roundsOf(missing))
	case len(sp.counted) < log.count:
		return sp, refusal.New(ReasonLedger, "the store had %d charges to %s, but with the audit log it now has %d: another broker made the others; restore a newer store, or close that broker's rounds there again", log.count, a, len(sp.counted))
	}
	sp.unseen = slices.DeleteFunc(slices.Clone(sp.own), func(c Charge) bool { return known[c.Round] })
	return sp, nil
}

// aboutFormer is what the names of former accounts are recorded about.
const aboutFormer = "ledgers"

// formerLedgers are the ledgers that earlier versions kept: those of typed names, and those
// of models by their ids. The latter's names go into the audit log, which has their charges,
// so that a store from before them does not take them away.
func (s *Service) formerLedgers(ctx context.Context) (names []string, err error) {
	events, err := s.cfg.Log.Find(ctx, actionFormer, aboutFormer)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if e.Away {
			return nil, refusal.New(ReasonRecord, "the audit log names accounts of models in an archived segment that is missing: restore the segments of the audit log")
		}
		names = append(names, ledgerOf(federation.Account(e.Detail)))
	}
	stored, err := s.cfg.Store.Ledgers(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range stored {
		name := l.Name
		account, ofAccount := strings.CutPrefix(name, accountPrefix)
		switch a := federation.Account(account); {
		case ofAccount && !a.Former() || slices.Contains(names, name):
			continue
		case ofAccount:
			if err := s.cfg.Log.Append(ctx, Event{Action: actionFormer, About: aboutFormer, Detail: account}); err != nil {
				return nil, err
			}
		}
		names = append(names, name)
	}
	return names, nil
}
