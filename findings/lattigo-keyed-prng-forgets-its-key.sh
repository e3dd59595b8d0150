#!/usr/bin/env bash
# Lattigo v6.2.0: sampling.KeyedPRNG.Key is documented to return a copy of the key that seeded the
# generator, but NewKeyedPRNG never stores it: the answer is empty. A generator made anew from
# Key() takes the empty key without an error and gives another stream, the same one for whoever
# does so.
set -euo pipefail
dir=$(mktemp -d); trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
cd "$dir"
cat >main.go <<'GO'
package main

import (
	"bytes"
	"fmt"
	"os"

	"github.com/tuneinsight/lattigo/v6/utils/sampling"
)

func main() {
	given, err := sampling.NewKeyedPRNG(bytes.Repeat([]byte{7}, 32))
	if err != nil {
		panic(err)
	}
	again, err := sampling.NewKeyedPRNG(given.Key())
	if err != nil {
		panic(err)
	}
	other, err := sampling.NewKeyedPRNG([]byte{8})
	if err != nil {
		panic(err)
	}
	third, err := sampling.NewKeyedPRNG(other.Key())
	if err != nil {
		panic(err)
	}
	a, b, c := make([]byte, 16), make([]byte, 16), make([]byte, 16)
	given.Read(a)
	again.Read(b)
	third.Read(c)
	fmt.Printf("Key() of a generator with a key of 32 bytes: %d bytes\n", len(given.Key()))
	fmt.Printf("a generator made from Key() gives the same stream: %v\n", bytes.Equal(a, b))
	fmt.Printf("one made from Key() of a generator with another key gives that stream too: %v\n", bytes.Equal(b, c))
	if len(given.Key()) != 0 || bytes.Equal(a, b) || !bytes.Equal(b, c) {
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
