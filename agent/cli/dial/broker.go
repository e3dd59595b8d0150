package dial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/spf13/cobra"
)

// The words of a broker that does not answer.
const (
	brokerStillSilent  = "the broker has not answered for %s; waiting up to %s (--timeout)\n"
	brokerSilent       = "%s: %w: its process is stopped or hangs, or waits for a disk or the database of rounds; see systemctl status anchorhold-broker and its journal. Once it continues, anchorhold audit show tells whether it did what was asked"
	brokerCutOff       = "%s: %w: once it runs again (systemctl status anchorhold-broker), anchorhold audit show tells whether it did what was asked"
	brokerNoSocket     = "no operator socket at %s: is anchorhold-broker running? (--broker names another socket)"
	brokerNotListening = "nothing listens on %s: anchorhold-broker has stopped; see its journal"
	brokerForbidden    = "this user may not open %s: the broker's configuration lists its operators"
	flagTimeout        = "how long the broker may stay silent before the command fails"
	flagBroker         = "operator socket of the broker ($ANCHORHOLD_BROKER changes the default)"
)

// Statements asks the broker for the root's statements that it holds. They need no
// trust in the broker: the root signed them.
func Statements(ctx context.Context, b *operator.Client) (out []string, err error) {
	all, err := b.Epochs(ctx)
	for _, e := range all {
		if len(e.Statement) > 0 {
			out = append(out, string(e.Statement))
		}
	}
	return out, err
}

// silenceNoticed is how long a broker may be silent until somebody who waits is told.
const silenceNoticed = 10 * time.Second

// Broker is a client of the broker's operator socket, which says on standard error when
// it waits.
func Broker(inv *cli.Invocation) *operator.Client {
	w := inv.Err
	return operator.NewPatientClient(inv.Broker, operator.Patience{Silence: inv.Patience, NoticeAfter: silenceNoticed, Notice: func() {
		fmt.Fprintf(w, brokerStillSilent, silenceNoticed, inv.Patience)
	}})
}

// incomplete is the error of an answer that is worth printing and does not have everything.
type incomplete struct{ error }

// Ask has the broker do something, and prints the answer.
func Ask(inv *cli.Invocation, do func(*operator.Client) (any, func(io.Writer), error)) error {
	value, text, err := do(Broker(inv))
	if part, ok := errors.AsType[incomplete](err); ok {
		return errors.Join(inv.Print(value, text), part)
	}
	if err != nil {
		return Explain(err, inv.Broker)
	}
	return inv.Print(value, text)
}

// Reasons of a broker that gives no answer.
const (
	reasonBrokerUnreachable = "broker-unreachable"
	reasonBrokerCut         = "broker-cut-off"
	reasonBrokerSilent      = "broker-unresponsive"
)

// Explain adds what to do to a refusal of the broker, and to the error of a broker that does
// not answer. Other errors are returned as they are.
func Explain(err error, socket string) error {
	if refusal, ok := errors.AsType[*operator.Error](err); ok {
		return cli.Named(refusal.Code, fmt.Errorf("%w: %w", cli.ErrRefused, refusal))
	}
	if errors.Is(err, operator.ErrSilent) {
		return cli.Named(reasonBrokerSilent, fmt.Errorf(brokerSilent, socket, err))
	}
	if errors.Is(err, operator.ErrCut) {
		return cli.Named(reasonBrokerCut, fmt.Errorf(brokerCutOff, socket, err))
	}
	if dial, ok := errors.AsType[*net.OpError](err); !ok || dial.Op != "dial" {
		return err // of a local file, or of a connection that stood
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return cli.Named(reasonBrokerUnreachable, fmt.Errorf(brokerNoSocket, socket))
	case errors.Is(err, syscall.ECONNREFUSED):
		return cli.Named(reasonBrokerUnreachable, fmt.Errorf(brokerNotListening, socket))
	case errors.Is(err, os.ErrPermission):
		return cli.Named(reasonBrokerUnreachable, fmt.Errorf(brokerForbidden, socket))
	}
	return err
}

// defaults that match the unit files and the packages.
const (
	defaultAgentSocket  = "/run/anchorhold/agent.sock"
	defaultBrokerSocket = "/run/anchorhold-broker/operator.sock"
)

// BrokerFlag adds --broker, the operator socket of the local broker, and --timeout.
func BrokerFlag(inv *cli.Invocation, c *cobra.Command) {
	c.PersistentFlags().DurationVar(&inv.Patience, "timeout", operator.DefaultSilence, flagTimeout)
	c.PersistentFlags().StringVar(&inv.Broker, "broker", envOr("ANCHORHOLD_BROKER", defaultBrokerSocket), flagBroker)
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// Incomplete marks the error of an answer that is worth printing and lacks something.
func Incomplete(err error) error { return incomplete{err} }
