// Command testreport reads the output of `go test -json`, prints what go test would print without
// that flag, and lists at the end which tests were skipped and why, which go test does not report.
//
// With -expect FILE, every skip must be on a list, with a reason. Otherwise a test that looks for a
// peer, finds none and skips could count as passed for years.
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
