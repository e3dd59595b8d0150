package ptau

import (
	"context"
	"encoding/binary"
	"errors"
	"math/bits"
	"runtime"
	"sync"

	curve "github.com/consensys/gnark-crypto/ecc/bn254"
	"github.com/consensys/gnark-crypto/ecc/bn254/fp"
)

// Lengths in bytes: coordinates are in Montgomery form, little endian, a point of G2 has
// two for each.
const (
	g1Bytes = 2 * fp.Bytes
	g2Bytes = 4 * fp.Bytes
)

// pieceBytes is how much of a section is read at once.
const pieceBytes = 1 << 20

// Why a point is refused.
var (
	errRange    = errors.New("a coordinate is not below the prime")
	errInfinity = errors.New("the point at infinity")
	errCurve    = errors.New("not on the curve")
	errSubgroup = errors.New("not in the subgroup of prime order")
)

// readPoints reads and checks the first n points of a section.
func readPoints[P any](ctx context.Context, f *File, kind, n int, decode func([]byte) (P, error)) ([]P, error) {
	each := int(pointBytes(kind))
	s := f.sections[kind]
	if int64(n) > s.size/int64(each) {
		return nil, refused("section %d has %d points, want %d", kind, s.size/int64(each), n)
	}
	list := make([]P, n)
	piece := make([]byte, min(n*each, pieceBytes))
	for from := 0; from < n; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		count := min(n-from, len(piece)/each)
		if err := f.read(piece[:count*each], s.at+int64(from*each)); err != nil {
			return nil, err
		}
		err := inParallel(count, func(i int) error {
			p, err := decode(piece[i*each : (i+1)*each])
			if err != nil {
				return refused("section %d, point %d: %w", kind, from+i, err)
			}
			list[from+i] = p
			return nil
		})
		if err != nil {
			return nil, err
		}
		from += count
	}
	return list, nil
}

// inParallel calls do for 0 to n-1 on all processors, and returns the error of the lowest
// number.
func inParallel(n int, do func(int) error) error {
	workers := min(runtime.GOMAXPROCS(0), n)
	failed := make([]error, workers)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := n * w / workers; i < n*(w+1)/workers && failed[w] == nil; i++ {
				failed[w] = do(i)
			}
		})
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// prime is the limbs of the coordinates' prime.
var prime = func() (p [fp.Limbs]uint64) {
	b := modulusBytes()
	for i := range p {
		p[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	return p
}()

// coordinate takes a field element from the front of b. The Montgomery factor is 2^256
// on both sides.
func coordinate(b []byte) (e fp.Element, err error) {
	var borrow uint64
	for i := range e {
		e[i] = binary.LittleEndian.Uint64(b[8*i:])
		_, borrow = bits.Sub64(e[i], prime[i], borrow)
	}
	if borrow == 0 {
		return e, errRange
	}
	return e, nil
}

func coordinates(b []byte, to ...*fp.Element) error {
	zero := true
	for i, e := range to {
		var err error
		if *e, err = coordinate(b[i*fp.Bytes:]); err != nil {
			return err
		}
		zero = zero && e.IsZero()
	}
	if zero {
		return errInfinity
	}
	return nil
}

// decodeG1 decodes a point of G1, which is the whole curve.
func decodeG1(b []byte) (p curve.G1Affine, err error) {
	if err := coordinates(b, &p.X, &p.Y); err != nil {
		return p, err
	}
	if !p.IsOnCurve() {
		return p, errCurve
	}
	return p, nil
}

func decodeG2(b []byte) (p curve.G2Affine, err error) {
	if err := coordinates(b, &p.X.A0, &p.X.A1, &p.Y.A0, &p.Y.A1); err != nil {
		return p, err
	}
	if !p.IsOnCurve() {
		return p, errCurve
	}
	if !p.IsInSubGroup() {
		return p, errSubgroup
	}
	return p, nil
}
