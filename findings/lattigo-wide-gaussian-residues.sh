#!/usr/bin/env bash
# Lattigo v6.2.0: ring.DiscreteGaussian samples each coefficient once and writes it to every
# residue as one machine word, unless sigma is above 2^53 and the bound above 2^64. A coefficient
# that is larger than the smallest prime of the ring is not reduced by it: the residues are not
# canonical, and those of negative coefficients stand for numbers far beyond the bound that was
# asked for. NewSampler refuses nothing.
#
# Seen with N = 4096, primes of 60, 40 and 40 bits, bound 6 sigma: none up to sigma 2^36; at 2^40
# 1,285 of 4,096 coefficients have a residue that is not below its prime, and 629 stand for a
# number beyond the bound. A ring of the 60-bit prime alone samples rightly at 2^40, and all three
# at 2^62, where Lattigo samples over the integers and reduces.
#
# It matters for noise flooding, where sigma is meant to be large: keep 6 sigma below the smallest
# prime, or sample over the integers and reduce.
set -euo pipefail
dir=$(mktemp -d); trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'GO'
package main

import (
	"fmt"
	"math"
	"math/big"
	"os"

	"github.com/tuneinsight/lattigo/v6/ring"
	"github.com/tuneinsight/lattigo/v6/utils/sampling"
)

const n = 4096

func prime(bits int) *ring.NTTFriendlyPrimesGenerator {
	g := ring.NewNTTFriendlyPrimesGenerator(uint64(bits), 2*n)
	return &g
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// count samples once, and counts coefficients with a residue that is not reduced, and those
// whose number exceeds the bound.
func count(primes []uint64, log int) (unreduced, beyond int) {
	r := must(ring.NewRing(n, primes))
	prng := must(sampling.NewKeyedPRNG(make([]byte, 32)))
	sigma := math.Ldexp(1, log)
	p := must(ring.NewSampler(prng, r, ring.DiscreteGaussian{Sigma: sigma, Bound: 6 * sigma}, false)).ReadNew()
	numbers := make([]*big.Int, n)
	for i := range numbers {
		numbers[i] = new(big.Int)
		for level, q := range primes {
			if p.Coeffs[level][i] >= q {
				unreduced++
				break
			}
		}
	}
	r.PolyToBigintCentered(p, 1, numbers)
	bound := new(big.Int).Lsh(big.NewInt(6), uint(log))
	for _, v := range numbers {
		if v.CmpAbs(bound) > 0 {
			beyond++
		}
	}
	return unreduced, beyond
}

func main() {
	wide, narrow := prime(60), prime(40)
	three := []uint64{must(wide.NextUpstreamPrime()), must(narrow.NextUpstreamPrime()), must(narrow.NextUpstreamPrime())}
	same := true
	for _, c := range []struct {
		primes []uint64
		log    int
		bad    bool
	}{{three, 20, false}, {three, 36, false}, {three, 40, true}, {three[:1], 40, false}, {three, 62, false}} {
		unreduced, beyond := count(c.primes, c.log)
		fmt.Printf("%d primes, sigma 2^%d: %d residues not reduced, %d numbers beyond 6 sigma\n", len(c.primes), c.log, unreduced, beyond)
		same = same && (unreduced > 0) == c.bad && (beyond > 0) == c.bad
	}
	if !same {
		fmt.Println("CHANGED: this is not what the finding states")
		os.Exit(1)
	}
	fmt.Println("as stated")
}
GO
export GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>/dev/null
go get github.com/tuneinsight/lattigo/v6@v6.2.0 2>/dev/null
go run .
