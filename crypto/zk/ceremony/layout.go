package ceremony

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark/backend/groth16/bn254/mpcsetup"
)

// The library takes the lengths of lists, and each point's form, from the file that it
// decodes: a file of a few bytes could have it allocate 2^32 points. What it may find where
// follows from the contribution before, so that a file is held against its layout first.

const (
	g1Bytes        = curve.SizeOfG1AffineCompressed
	g2Bytes        = curve.SizeOfG2AffineCompressed
	challengeBytes = 32
	// formBits of a point's first byte are zero if it is not in the compressed form.
	formBits = 0xc0
)

// part is a piece of a file: fixed bytes, or points, or free bytes.
type part struct {
	fixed  []byte
	points int
	each   int // bytes of a point
	free   int
}

type layout []part

func (l *layout) fix(b []byte)  { *l = append(*l, part{fixed: b}) }
func (l *layout) g1(points int) { *l = append(*l, part{points: points, each: g1Bytes}) }
func (l *layout) g2(points int) { *l = append(*l, part{points: points, each: g2Bytes}) }
func (l *layout) update()       { l.g1(1); l.g2(1) } // a proof of knowledge
func (l *layout) challenge() {
	l.fix([]byte{challengeBytes})
	*l = append(*l, part{free: challengeBytes})
}
func (l *layout) list(count int) {
	l.fix(binary.BigEndian.AppendUint32(nil, uint32(count)))
	l.g1(count)
}

// layout1 is that of a contribution to phase 1.
func layout1(domain uint64) (l layout) {
	n := int(domain)
	for range 3 { // tau, alpha, beta
		l.update()
	}
	l.fix(binary.BigEndian.AppendUint64(nil, domain))
	l.g2(1)
	l.g1(2*n - 2)
	l.g2(n - 1)
	l.g1(2 * n)
	l.challenge()
	return l
}

// layout2 is that of a contribution to phase 2, after another or at its beginning.
func layout2(before *mpcsetup.Phase2) (l layout) {
	p := &before.Parameters
	n := len(p.G2.Sigma)
	l.fix(binary.BigEndian.AppendUint16(nil, uint16(n)))
	l.g1(1)
	l.list(len(p.G1.PKK))
	l.list(len(p.G1.Z))
	l.g2(1)
	for i := range n {
		l.list(len(p.G1.SigmaCKK[i]))
	}
	l.g2(n)
	for range 1 + n {
		l.update()
	}
	l.challenge()
	return l
}

// check reads a file to its end, and holds it against the layout.
func (l layout) check(r io.Reader) error {
	in := bufio.NewReaderSize(r, 1<<20)
	for _, p := range l {
		b := make([]byte, len(p.fixed)+p.each+p.free)
		for range max(p.points, 1) {
			if p.each > 0 && p.points == 0 {
				break
			}
			if _, err := io.ReadFull(in, b); err != nil {
				return fmt.Errorf("the file is too short: %w", err)
			}
			if p.fixed != nil && !bytes.Equal(b, p.fixed) {
				return errors.New("a length does not match this ceremony")
			}
			if p.each > 0 && b[0]&formBits == 0 {
				return errors.New("a point is not in compressed form")
			}
		}
	}
	if _, err := in.ReadByte(); err == nil {
		return errors.New("there are bytes after the end")
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// ioFunc is a reader or a writer.
type ioFunc func([]byte) (int, error)

func (f ioFunc) Read(b []byte) (int, error)  { return f(b) }
func (f ioFunc) Write(b []byte) (int, error) { return f(b) }

// until does f while the context lasts.
func until(ctx context.Context, f ioFunc) ioFunc {
	return func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return f(b)
	}
}
