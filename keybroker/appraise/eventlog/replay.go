package eventlog

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"fmt"

	"github.com/anchorhold/anchorhold/crypto/refusal"
	"github.com/anchorhold/anchorhold/guest/evidence"
)

// Bank is the algorithm of a set of registers: "sha256" or "sha384".
type Bank string

// Banks that can be replayed. RTMRs are [SHA384]. SHA-1 proves nothing any more.
const (
	SHA256 Bank = "sha256"
	SHA384 Bank = "sha384"
)

func (b Bank) algorithm() uint16 {
	switch b {
	case SHA256:
		return algSHA256
	case SHA384:
		return algSHA384
	}
	return 0
}

// maxDigest is the size of the longest digest that is compared.
const maxDigest = sha512.Size384

// hash is the digest of data with one of the two algorithms, in front, and its size.
func hash(alg uint16, data []byte) (out [maxDigest]byte, size int) {
	if alg == algSHA256 {
		d := sha256.Sum256(data)
		return out, copy(out[:], d[:])
	}
	return sha512.Sum384(data), maxDigest
}

// registers are the values that a log's events lead to.
type registers struct {
	values   [pcrs][maxDigest]byte
	extended [pcrs]bool
	located  bool // the locality of the start was said
}

// Registers are replayed values by number: PCR or RTMR.
type Registers map[int]evidence.Hex

// Replay returns the value of each register that the log has events for, in one bank. Nothing is
// verified by it: only a comparison with values that a quote proved makes a log believable, which
// is what [Verify] does. A log that does not parse is refused.
func Replay(log []byte, format Format, bank Bank) (Registers, error) {
	r, err := newReader(log, format, bank.algorithm())
	if err != nil {
		return nil, err
	}
	var state registers
	if err := state.replay(&r); err != nil {
		return nil, err
	}
	values := Registers{}
	for i, extended := range state.extended {
		if extended {
			values[i] = append(evidence.Hex(nil), state.values[i][:digestBytes(r.bank)]...)
		}
	}
	return values, nil
}

// replay extends every event's digest into its register (TPM 2.0 Library, part 1, 17.4; Intel TDX
// Module ABI, TDG.MR.RTMR.EXTEND): new value = H(old value, digest).
func (s *registers) replay(r *reader) error {
	if digestBytes(r.bank) == 0 || !r.has(r.bank) {
		return refusal.New(ReasonBank, "the log has no digests of the verified registers' algorithm")
	}
	var e event
	for {
		more, err := r.next(&e)
		if err != nil || !more {
			return err
		}
		if e.typ == evNoAction {
			if err := s.locality(r, &e); err != nil {
				return err
			}
			continue
		}
		n, err := number(r.format, e.index)
		if err != nil {
			return err
		}
		if e.typ == evHCRTM && n == 0 && r.format == TCG && !s.extended[0] && !s.located {
			s.values[0][digestBytes(r.bank)-1] = hardwareLocality
		}
		s.extended[n] = true
		var joined [2 * maxDigest]byte
		size := copy(joined[:], s.values[n][:len(e.digest)])
		size += copy(joined[size:], e.digest)
		s.values[n], _ = hash(r.bank, joined[:size])
	}
}

// hardwareLocality is where a root of trust in hardware measures the first code, before the TPM
// is started (section 10.4.5.3 and PC Client Platform TPM Profile, 4.6.2).
const hardwareLocality = 4

// locality sets PCR 0's first value from the event that says at which locality the TPM was
// started (section 10.4.5.3). It counts only before anything was measured into PCR 0.
func (s *registers) locality(r *reader, e *event) error {
	if r.format != TCG || len(e.data) < len(localitySignature) || string(e.data[:len(localitySignature)]) != localitySignature {
		return nil
	}
	if e.index != 0 || s.extended[0] || s.located || len(e.data) != len(localitySignature)+1 {
		return refusal.New(ReasonMalformed, "event %d states the locality of the start at the wrong place, or again", r.events)
	}
	at := e.data[len(localitySignature)]
	if at != 0 && at != 3 && at != hardwareLocality {
		return refusal.New(ReasonMalformed, "a TPM does not start at locality %d", at)
	}
	s.located = true
	s.values[0][digestBytes(r.bank)-1] = at
	return nil
}

// number is the register that an index stands for.
func number(format Format, index uint32) (int, error) {
	if format == TCG {
		return int(index), nil
	}
	if index == 0 {
		return 0, refusal.New(ReasonMalformed, "an event is measured into MRTD, which firmware cannot extend")
	}
	return int(index) - 1, nil
}

// name is the register as claims call it.
func (f Format) name(register int) string {
	if f == CCEL {
		return fmt.Sprintf("rtmr%d", register)
	}
	return fmt.Sprintf("pcr%d", register)
}

// reached is the value that the events led a register to.
func (s *registers) reached(r *reader, n int) []byte {
	have := s.values[n][:digestBytes(r.bank)]
	// These start as all ones, and as zeros after a dynamic launch, without which nothing is
	// measured into them (PC Client Platform TPM Profile, 4.6.2).
	if r.format == TCG && n >= 17 && n <= 22 && !s.extended[n] {
		for i := range have {
			have[i] = 0xff
		}
	}
	return have
}

// compare checks that each verified register was reached.
func (s *registers) compare(r *reader, want Registers) error {
	for n, value := range want {
		have := s.reached(r, n)
		if subtle.ConstantTimeCompare(have, value) != 1 {
			return refusal.New(ReasonRegister, "%s: the log leads to %x, the verified value is %x", r.format.name(n), have, []byte(value))
		}
	}
	return nil
}
