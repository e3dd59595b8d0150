// Command testreport reads what `go test -json` writes, prints it as go test would without that
// flag, and says at the end which tests were skipped and why: go test passes over them in
// silence.
//
// With -expect FILE every skip has to be on a list, with a reason. A test that looks for a peer,
// finds none and skips would otherwise count as passed for years.
//
//	go test -json ./... | go run ./packaging/testreport -expect .ci/expected-skips
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	list := flag.String("expect", "", "file of expected skips; any other skip is a failure")
	flag.Parse()
	var expected *expectations
	if *list != "" {
		var err error
		if expected, err = readExpectations(*list); err != nil {
			fmt.Fprintln(os.Stderr, "testreport:", err)
			os.Exit(2)
		}
	}
	if err := report(os.Stdin, os.Stdout, expected); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
}
