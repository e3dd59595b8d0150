package dial

import (
	"fmt"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/crypto/digest"
	"github.com/anchorhold/anchorhold/keybroker/aggregator/uplink"
)

// roundIDInvalid is said of a text that names no round.
const roundIDInvalid = "%q is not a round's id: want 32 hexadecimal digits"

// Round reads a round's id from a command line.
func Round(s string) (digest.RoundID, error) {
	id, err := digest.ParseID[digest.Round](s)
	if err != nil {
		err = cli.Usage(fmt.Errorf(roundIDInvalid, s))
	}
	return id, err
}

// Aggregator is an aggregator's admin socket. What comes from there is only
// handed on to those who verify it.
func Aggregator(socket string) *uplink.Client { return uplink.NewLocal(socket, nil) }
