package rounds

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/crypto/identity"
	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/keybroker/federation"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// ReasonRecord means that the audit log has records which this broker cannot read any
// more, and needs.
const ReasonRecord refusal.Reason = "round-record-archived"

// ReasonLedger means that the store has fewer charges of an account than it had, and that
// the audit log does not have them: they were another broker's.
const ReasonLedger refusal.Reason = "privacy-ledger-rolled-back"

// Event is one record of the audit log.
type Event struct {
	// Action is what was done, About what it was done to: it is found by both.
	Action, About string
	Detail        string
	// Away is true of an event that is in the log, but whose text was archived and taken
	// away.
	Away bool
}

// Log is the audit log, as rounds see it.
type Log interface {
	// Append records events durably, all or none.
	Append(ctx context.Context, events ...Event) error
	// Find returns every event of one action about one thing, oldest first. An error means
	// that the log cannot be believed, and nothing is done.
	Find(ctx context.Context, action, about string) ([]Event, error)
	// Kept refuses a log that does not extend the checkpoint kept elsewhere, if one is.
	Kept(ctx context.Context) error
	// Keep brings that checkpoint up to what the log holds now.
	Keep(ctx context.Context) error
}

// The actions whose records are read again.
const (
	actionPrepare = "round-prepare"
	actionOpen    = "round-open"
	actionTicket  = "round-ticket"
	actionCharge  = "round-charge"
	actionPublish = "round-publish"
	actionAbandon = "round-abandon"
	actionFormer  = "round-ledger-former"
	actionSeen    = "round-ledger-seen"
)

// ticketPart is how many bytes of a ticket one record holds.
const ticketPart = 2700

// maxTicketParts bounds the records of one ticket.
const maxTicketParts = 32

// aboutAccount is what charges of an account are recorded about.
func aboutAccount(a federation.Account) string { return "ledger/" + string(a) }

// note records what is about to become of a round.
func (s *Service) note(ctx context.Context, id digest.RoundID, action, detail string) error {
	return s.cfg.Log.Append(ctx, Event{Action: action, About: federation.ResourceOf(id), Detail: strings.TrimSpace(id.String() + " " + detail)})
}

// tell notes what is about to become of a round, and has the checkpoint kept elsewhere cover
// that before the store says it or a key is made or destroyed for it: else store and log
// could be put back to before, and the round would be as it was.
func (s *Service) tell(ctx context.Context, id digest.RoundID, action, detail string) error {
	if err := s.note(ctx, id, action, detail); err != nil {
		return err
	}
	return s.cfg.Log.Keep(ctx)
}

// record writes charge and ticket of a round into the log, together.
func (s *Service) record(ctx context.Context, r federation.Round, ticket []byte) error {
	charge := chargeOf(r) // its place in the ledger is the store's matter
	if err := charge.check(); err != nil {
		return err
	}
	raw, err := json.Marshal(charge)
	if err != nil {
		return err
	}
	events := []Event{{Action: actionCharge, About: aboutAccount(r.Account), Detail: string(raw)}}
	parts := (len(ticket) + ticketPart - 1) / ticketPart
	if parts > maxTicketParts {
		return errors.New("the ticket is too long to be recorded")
	}
	for i := range parts {
		part := ticket[i*ticketPart : min((i+1)*ticketPart, len(ticket))]
		events = append(events, Event{Action: actionTicket, About: r.Resource(), Detail: fmt.Sprintf("%s %d/%d %s", r.ID, i+1, parts, base64.StdEncoding.EncodeToString(part))})
	}
	return s.cfg.Log.Append(ctx, events...)
}

// recorded is the ticket of a round in the log, or nil. The first whole one counts: a
// process that ended while it recorded one left a part, and nobody has that ticket.
func (s *Service) recorded(ctx context.Context, r federation.Round, round digest.Digest) ([]byte, error) {
	events, err := s.cfg.Log.Find(ctx, actionTicket, r.Resource())
	if err != nil {
		return nil, err
	}
	var ticket []byte
	next := 1
	for _, e := range events {
		if e.Away {
			return nil, refusal.New(ReasonRecord, "round %s closed earlier, and its record is in an archived segment that is missing: restore the segments of the audit log", r.ID)
		}
		var id, text string
		var n, of int
		if _, err := fmt.Sscanf(e.Detail, "%s %d/%d %s", &id, &n, &of, &text); err != nil || id != r.ID.String() || n < 1 || n > of || of > maxTicketParts {
			return nil, damaged("the ticket of round %s in the audit log: %q", r.ID, e.Detail)
		}
		if n != next {
			ticket, next = nil, 1
		}
		if n != next {
			continue
		}
		part, err := base64.StdEncoding.Strict().DecodeString(text)
		if err != nil {
			return nil, damaged("the ticket of round %s in the audit log: %v", r.ID, err)
		}
		ticket, next = append(ticket, part...), next+1
		if n == of {
			_, err := federation.VerifyTicket(ticket, s.cfg.Roots, protocol.Recorded(protocol.AtLeast(1)), r, round)
			return ticket, err
		}
	}
	return nil, nil
}

// matches refuses a ticket from the log that is of another closing than the store's.
func matches(rec *Record, r federation.Round, roots []identity.Public) error {
	t, err := federation.VerifyTicket(rec.Ticket, roots, protocol.Recorded(protocol.AtLeast(1)), r, digest.Of(rec.Signed))
	if err == nil && (t.Cohort != rec.Cohort || t.Sum != rec.Sum) {
		err = refusal.New(ReasonClosed, "round %s closed over another cohort or sum, as the audit log shows, and a round closes only once", r.ID)
	}
	return err
}
