package rounds

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

const rounding = 1e-9 // how far two machines may differ in computing a step or sigma

// maxConflicts is how often a change is tried again that another overtook. Each time
// the other has come through, so this many may close rounds of one model at once.
const maxConflicts = 64

// change reads a round, lets f alter it and stores it; again if another was faster.
// What goes on needs a round whose epoch was not retired since; what ends one does not.
func (s *Service) change(ctx context.Context, id digest.RoundID, verify func(Record) (federation.Round, error), f func(*Record, federation.Round) (*Charge, error)) (Record, error) {
	for try := 0; ; try++ {
		rec, err := s.cfg.Store.Get(ctx, id)
		if err != nil {
			return rec, err
		}
		r, err := verify(rec)
		if err != nil {
			return rec, err
		}
		charge, err := f(&rec, r)
		if errors.Is(err, errUnchanged) {
			return rec, nil
		}
		if err != nil {
			return rec, err
		}
		err = s.cfg.Store.Update(ctx, rec, charge)
		if reason, _ := refusal.ReasonOf(err); reason != ReasonConflict || try == maxConflicts {
			return rec, err
		}
	}
}

// going verifies a round that goes on.
func (s *Service) going(rec Record) (federation.Round, error) {
	return federation.VerifyRound(rec.Signed, s.cfg.Roots, s.own(), s.kept())
}

// shown verifies a round that is shown or ended, whatever became of its epoch. Of one that
// does not verify any more (an earlier version signed it, or another root, or its bytes were
// damaged) its names are known, and why is the reason.
func (s *Service) shown(rec Record) (federation.Round, refusal.Reason, error) {
	r, err := federation.VerifyRound(rec.Signed, s.cfg.Roots, s.own(), protocol.Recorded(protocol.AtLeast(1)))
	if reason, refused := refusal.ReasonOf(err); refused {
		return federation.Round{ID: rec.ID, Model: rec.Model}, reason, nil
	}
	return r, "", err
}

// errUnchanged tells change that there is nothing to store.
var errUnchanged = errors.New("nothing changes")

// openedHere refuses to end what another broker of a fleet opened. They share a store and
// no audit log: after an old store was restored, only the log of the one that closed a round
// knows over which cohort, and what was published, so it is always the same one that closes
// it, releases its key and takes its result.
//
// Whoever has a key of parties can name its round, so the opening of such a round is
// believed only where its key was set up.
func (s *Service) openedHere(ctx context.Context, r federation.Round) error {
	events, err := s.cfg.Log.Find(ctx, actionOpen, r.Resource())
	if err == nil && len(events) == 0 {
		err = refusal.New(ReasonElsewhere, "this broker's audit log has no record of opening round %s: use the broker that opened it to close and finish the round and to release its key", r.ID)
	}
	if err == nil && r.Parties != nil {
		err = s.preparedHere(ctx, r.ID)
	}
	return err
}

// preparedHere refuses a key of parties that another broker of a fleet set up: one broker
// alone may open the round of a key, however old the store is that it asks.
func (s *Service) preparedHere(ctx context.Context, id digest.RoundID) error {
	events, err := s.cfg.Log.Find(ctx, actionPrepare, federation.ResourceOf(id))
	if err == nil && len(events) == 0 {
		err = refusal.New(ReasonElsewhere, "this broker's audit log has no record of setting up the key of round %s: use the broker that did to open, close and finish the round", id)
	}
	return err
}

// Closing names what a round closes over.
type Closing struct {
	// Cohort are the contributions that were added.
	Cohort []digest.Digest `json:"cohort"`
	// Sum is the UploadDigest of the sum's block hashes. A digest does not say of how many:
	// whoever closes counts them, and no agent decrypts a sum of another number.
	Sum digest.Digest `json:"sum"`
}

// Close closes a round over one cohort and one sum, and returns the ticket. The
// charge and the closing are one durable step, before the ticket is signed; closing
// again with the same cohort and sum returns a ticket for the same.
//
// The audit log is asked first. If the round's ticket is in it, the store is older than the
// log: the round closes as it did, over the same cohort and sum, by the same ticket. If it
// was abandoned, it stays so.
func (s *Service) Close(ctx context.Context, id digest.RoundID, c Closing) ([]byte, error) {
	if err := s.cfg.Log.Kept(ctx); err != nil {
		return nil, err
	}
	done, err := s.end(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	rec, err := s.change(ctx, id, s.going, func(rec *Record, r federation.Round) (*Charge, error) {
		cohort := federation.CohortDigest(c.Cohort)
		switch rec.State {
		case Closed, Published:
			if rec.Cohort != cohort || rec.Sum != c.Sum {
				return nil, refusal.New(ReasonClosed, "round %s closed over another cohort or sum, and a round closes only once", id)
			}
			return nil, errUnchanged
		case Abandoned:
			return nil, refusal.New(ReasonAbandoned, "round %s was abandoned", id)
		}
		if err := errors.Join(s.notAbandoned(ctx, id), s.openedHere(ctx, r)); err != nil {
			return nil, err
		}
		recorded, err := s.recorded(ctx, r, digest.Of(rec.Signed))
		if err != nil {
			return nil, err
		}
		if recorded != nil {
			return s.again(ctx, rec, r, c, recorded)
		}
		if err := s.allowed(r); err != nil {
			return nil, err
		}
		if err := s.checkCohort(rec, r, c.Cohort); err != nil {
			return nil, err
		}
		account, err := s.spent(ctx, r.Account)
		if err != nil {
			return nil, err
		}
		if _, _, err := s.afford(account, r); err != nil {
			return nil, err
		}
		if err := s.note(ctx, id, "round-close", fmt.Sprintf("cohort %s of %d sum %s %s", cohort, len(c.Cohort), c.Sum, spends(r))); err != nil {
			return nil, err
		}
		return closeOver(rec, r, c, account.own)
	})
	if err != nil {
		return nil, err
	}
	return s.ticket(ctx, rec.ID)
}

// closeOver closes a record, and makes the charge that follows those of the account.
func closeOver(rec *Record, r federation.Round, c Closing, own []Charge) (_ *Charge, err error) {
	charge := chargeOf(r)
	if len(own) > 0 {
		if charge.Previous, err = own[len(own)-1].digest(); err != nil {
			return nil, err
		}
	}
	rec.State, rec.Cohort, rec.Sum = Closed, federation.CohortDigest(c.Cohort), c.Sum
	members := setOf(c.Cohort)
	rec.Members = slices.DeleteFunc(rec.Members, func(m Member) bool { return !members[m.Contribution] })
	return &charge, nil
}

func setOf(list []digest.Digest) map[digest.Digest]bool {
	set := make(map[digest.Digest]bool, len(list))
	for _, d := range list {
		set[d] = true
	}
	return set
}

// again closes a round that an old store calls open as the log says that it closed. It
// was admitted and afforded then.
func (s *Service) again(ctx context.Context, rec *Record, r federation.Round, c Closing, recorded []byte) (*Charge, error) {
	t, err := federation.VerifyTicket(recorded, s.cfg.Roots, protocol.Recorded(protocol.AtLeast(1)), r, digest.Of(rec.Signed))
	if err != nil {
		return nil, damaged("the ticket of round %s in the audit log: %v", r.ID, err)
	}
	if t.Cohort != federation.CohortDigest(c.Cohort) || t.Sum != c.Sum {
		return nil, refusal.New(ReasonClosed, "round %s closed over another cohort or sum, as the audit log shows, and a round closes only once", r.ID)
	}
	own, err := s.cfg.Store.Charges(ctx, rec.ledger())
	if err != nil {
		return nil, err
	}
	rec.Ticket = recorded
	return closeOver(rec, r, c, own)
}

// checkCohort holds a cohort against the round and its list.
func (s *Service) checkCohort(rec *Record, r federation.Round, cohort []digest.Digest) error {
	if len(cohort) < int(r.Minimum) || len(cohort) > int(r.Maximum) {
		return refusal.New(ReasonCohort, "got %d contributions, the round allows %d to %d", len(cohort), r.Minimum, r.Maximum)
	}
	admitted := map[digest.Digest]bool{}
	for _, m := range rec.Members {
		admitted[m.Contribution] = true
	}
	for _, d := range cohort {
		if !admitted[d] {
			return refusal.New(ReasonNotListed, "contribution %s was not admitted or is listed twice", d)
		}
		delete(admitted, d)
	}
	return nil
}

// ticket signs what a closed round's record says, once; later calls return the same
// bytes. Charge and ticket are in the audit log before the ticket leaves, so that a store
// which forgets them is told. The caller holds s.ending.
func (s *Service) ticket(ctx context.Context, id digest.RoundID) ([]byte, error) {
	rec, err := s.change(ctx, id, s.going, func(rec *Record, r federation.Round) (*Charge, error) {
		if rec.Ticket != nil {
			return nil, errUnchanged
		}
		if recorded, err := s.recorded(ctx, r, digest.Of(rec.Signed)); err != nil || recorded != nil {
			rec.Ticket = recorded
			return nil, errors.Join(err, matches(rec, r, s.cfg.Roots))
		}
		if err := s.openedHere(ctx, r); err != nil {
			return nil, err
		}
		signer, err := s.cfg.Signer()
		if err != nil {
			return nil, err
		}
		account, err := s.spent(ctx, r.Account)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(account.own, func(c Charge) bool { return c.Round == r.ID }) {
			return nil, refusal.New(ReasonConflict, "round %s is closed but was not charged", id)
		}
		t := federation.Ticket{Round: r.ID, RoundDigest: digest.Of(rec.Signed), Broker: signer.Broker, Epoch: signer.Epoch,
			Cohort: rec.Cohort, Count: uint32(len(rec.Members)), Sum: rec.Sum, Delta: s.cfg.Privacy.Delta, Time: protocol.TimeOf(s.cfg.Now())}
		for _, m := range rec.Members {
			t.TotalWeight += uint64(m.Weight)
		}
		if t.Spent, t.SpentWithSampling, err = s.spend(account.counted); err != nil {
			return nil, err
		}
		if rec.Ticket, err = federation.SignTicket(signer.Key, signer.Statement, t); err != nil {
			return nil, err
		}
		others := slices.DeleteFunc(account.unseen, func(c Charge) bool { return c.Round == r.ID })
		if err := s.see(ctx, r.Account, others); err != nil {
			return nil, err
		}
		return nil, s.record(ctx, r, rec.Ticket)
	})
	if err == nil {
		err = s.cfg.Log.Keep(ctx)
	}
	if err != nil {
		return nil, err // a ticket that was not stored is nobody's: the noise depends on it
	}
	return rec.Ticket, nil
}

// MayRelease says whether a resource may be released as far as rounds are
// concerned: the key of a round only when the round is closed, and to whom it names.
func (s *Service) MayRelease(ctx context.Context, resource string, guest *protocol.LeaseCertificate) error {
	class, name, _ := strings.Cut(resource, "/")
	if class != federation.ResourceClass {
		return nil
	}
	id, err := digest.ParseID[digest.Round](name)
	if err != nil {
		return refusal.New(ReasonUnknown, "%s is no round's key", resource)
	}
	rec, err := s.cfg.Store.Get(ctx, id)
	if err != nil {
		return err
	}
	if rec.State != Closed || rec.Ticket == nil {
		return refusal.New(ReasonNotClosed, "round %s is %s; its key is released only between closing and publication", id, rec.State)
	}
	r, err := s.going(rec)
	if err != nil {
		return err
	}
	if err := r.AdmitsDecryptor(guest); err != nil {
		return err
	}
	// An old store calls it closed still, and an old key store beside it has its key again.
	if err := errors.Join(s.notOver(ctx, id), s.openedHere(ctx, r)); err != nil {
		return err
	}
	// Last: it writes a checkpoint elsewhere, for nobody who gets no key.
	return s.told(ctx, &rec)
}

// Abandon ends an open round: its key is destroyed, nothing is charged. One that closed, as
// the audit log says, is not open. Another broker than the one that opened it does so once
// the round is over, in case that one is lost.
func (s *Service) Abandon(ctx context.Context, id digest.RoundID) error {
	done, err := s.end(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.cfg.Log.Keep(ctx); err != nil {
		return err
	}
	var detail string
	names := func(rec Record) (federation.Round, error) {
		r, unverified, err := s.shown(rec)
		if unverified != "" {
			detail = "unverified " + string(unverified)
		}
		return r, err
	}
	_, err = s.change(ctx, id, names, func(rec *Record, r federation.Round) (*Charge, error) {
		switch rec.State {
		case Abandoned:
			return nil, errUnchanged
		case Open:
			if protocol.TimeOf(s.cfg.Now()) < r.Closes {
				if err := s.openedHere(ctx, r); err != nil {
					return nil, err
				}
			}
			recorded, err := s.recorded(ctx, r, digest.Of(rec.Signed))
			if err == nil && recorded != nil {
				err = refusal.New(ReasonClosed, "round %s is closed, as the audit log shows", id)
			}
			if err != nil {
				return nil, err
			}
			rec.State = Abandoned
			return nil, s.tell(ctx, id, actionAbandon, detail)
		}
		return nil, refusal.New(ReasonClosed, "round %s is %s", id, rec.State)
	})
	if err != nil {
		return err
	}
	return s.cfg.Secrets.Destroy(ctx, federation.ResourceOf(id))
}

// Finish takes the published result of a closed round and destroys its key. There
// is one result: the same values again, whoever signed them, change nothing. What the
// audit log says was published is the result, though the store does not know it any more.
func (s *Service) Finish(ctx context.Context, id digest.RoundID, result []byte) (federation.Result, error) {
	var res federation.Result
	done, err := s.end(ctx)
	if err != nil {
		return res, err
	}
	defer done()
	if err := s.cfg.Log.Keep(ctx); err != nil {
		return res, err
	}
	_, err = s.change(ctx, id, s.going, func(rec *Record, r federation.Round) (_ *Charge, err error) {
		if rec.Ticket == nil {
			return nil, refusal.New(ReasonNotClosed, "round %s is %s", id, rec.State)
		}
		if err := s.openedHere(ctx, r); err != nil {
			return nil, err
		}
		var authority protocol.Authority
		if res, authority, err = s.verifyResult(rec, r, s.live(), result); err != nil {
			return nil, err
		}
		if rec.State == Published {
			if held, _, err := s.verifyResult(rec, r, s.kept(), rec.Result); err != nil || held.Values != res.Values || held.Divisor != res.Divisor {
				return nil, refusal.New(ReasonClosed, "round %s published other values", id)
			}
			return nil, errUnchanged
		}
		if err := s.released(ctx, r, authority.Lease.AgentKey.ID()); err != nil {
			return nil, err
		}
		told, err := s.toldOf(ctx, id, res)
		if err != nil {
			return nil, err
		}
		rec.State, rec.Result = Published, result
		if told {
			return nil, nil
		}
		return nil, s.tell(ctx, id, actionPublish, valuesOf(res))
	})
	if err != nil {
		return federation.Result{}, err
	}
	return res, s.cfg.Secrets.Destroy(ctx, federation.ResourceOf(id))
}

// verifyResult holds a signed result against the round and its ticket: no shorter
// vector, no other grid, no less noise.
func (s *Service) verifyResult(rec *Record, r federation.Round, floor protocol.Floor, signed []byte) (res federation.Result, a protocol.Authority, err error) {
	t, err := federation.VerifyTicket(rec.Ticket, s.cfg.Roots, s.kept(), r, digest.Of(rec.Signed))
	if err != nil {
		return res, a, err
	}
	if res, a, err = federation.VerifyResult(signed, s.cfg.Roots, floor, r, t, digest.Of(rec.Ticket)); err != nil {
		return res, a, err
	}
	step, sigma, err := r.Published()
	switch {
	case err != nil:
		return res, a, err
	case a.Lease.SoftwareTEE && !s.cfg.Privacy.AllowSoftwareTEE:
		err = refusal.New(ReasonSoftware, "the result comes from a software TEE")
	case res.Length != r.Length || math.Abs(res.Step-step) > rounding*step:
		err = refusal.New(federation.ReasonWrongRound, "got %d values with a step of %g, the round has %d with a step of %g", res.Length, res.Step, r.Length, step)
	case res.Sigma < sigma*(1-rounding):
		err = refusal.New(ReasonPrivacy, "noise of %g grid steps was added, the round promised %g", res.Sigma, sigma)
	}
	return res, a, err
}

// released wants a record that the round's key was released to whoever signed the
// result. The certificate says that it was granted; the record, that it left this
// broker. Destroying the key over anybody else's word would lose the true result. Where
// parties hold the key, no key was released, and the round names them.
func (s *Service) released(ctx context.Context, r federation.Round, agent digest.Digest) error {
	if r.Parties != nil {
		return nil
	}
	ok, err := s.cfg.Released(ctx, r.Resource(), agent)
	if err == nil && !ok {
		err = refusal.New(ReasonNotReleased, "this broker has no record of releasing the round's key to agent %s: finish the round at the broker that did", agent)
	}
	return err
}

// told makes sure that the checkpoint kept elsewhere covers a round's ticket before anybody
// has it or the key that it frees: else store and log could be put back to before the
// close, and the checkpoint would not tell.
func (s *Service) told(ctx context.Context, rec *Record) error {
	if rec.Ticket == nil {
		return s.cfg.Log.Kept(ctx)
	}
	return s.cfg.Log.Keep(ctx)
}

// Status is a round at a glance.
type Status struct {
	Round federation.Round `json:"round"`
	// Unverified is why the signed round does not verify any more; of Round there are only
	// the names then.
	Unverified refusal.Reason `json:"unverified,omitempty"`
	State      State          `json:"state"`
	// ExpectedError is of the mean of the smallest cohort that the round may close over.
	ExpectedError *federation.Accuracy `json:"expected_error,omitempty"`
	// Warning is what an operator should know of the round, if anything.
	Warning string `json:"warning,omitempty"`
	// Adjacency is between what the round's epsilon is; none without noise.
	Adjacency string `json:"adjacency,omitempty"`
	// Contributors is how many were admitted.
	Contributors int      `json:"contributors"`
	Members      []Member `json:"members,omitempty"`
	Signed       []byte   `json:"signed,omitempty"`
	Ticket       []byte   `json:"ticket,omitempty"`
	Result       []byte   `json:"result,omitempty"`
}

// Status describes one round. A ticket that the checkpoint kept elsewhere does not cover yet
// is not shown.
func (s *Service) Status(ctx context.Context, id digest.RoundID) (Status, error) {
	rec, err := s.cfg.Store.Get(ctx, id)
	if err != nil {
		return Status{}, err
	}
	if s.told(ctx, &rec) != nil {
		rec.Ticket = nil
	}
	return s.statusOf(rec)
}

func (s *Service) statusOf(rec Record) (Status, error) {
	r, unverified, err := s.shown(rec)
	st := Status{Round: r, Unverified: unverified, State: rec.State, Contributors: len(rec.Members), Members: rec.Members, Signed: rec.Signed, Ticket: rec.Ticket, Result: rec.Result}
	if err == nil && unverified == "" {
		err = st.describe()
	}
	return st, err
}

// List describes all rounds, newest first, without what is large: Status has the signed
// round, its key, its contributors and its ticket.
func (s *Service) List(ctx context.Context) (list []Status, err error) {
	err = s.cfg.Store.Each(ctx, func(rec Record) error {
		st, err := s.statusOf(rec)
		st.Signed, st.Round.PublicKey, st.Members, st.Ticket = nil, nil, nil, nil
		list = append(list, st)
		return err
	})
	return list, err
}
