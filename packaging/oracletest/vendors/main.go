//go:build oracle

// Command vendors judges evidence with Google's libraries go-sev-guest, go-tdx-guest and
// go-eventlog, for the tests that compare them with our own verifiers: see package oracletest.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"github.com/anchorhold/anchorhold/packaging/oracletest"
)

// maxRequestBytes is far more than any question has.
const maxRequestBytes = 4 << 20

func main() {
	in := bufio.NewReaderSize(os.Stdin, maxRequestBytes)
	answers, err := quiet()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	out := json.NewEncoder(answers)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return // the test has ended
		}
		var r oracletest.Request
		if err := json.Unmarshal(line, &r); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := out.Encode(answer(r)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func answer(r oracletest.Request) any {
	switch {
	case r.SNP != nil:
		return judgeSNP(*r.SNP)
	case r.SNPFields != nil:
		return snpFields(r.SNPFields)
	case r.TDX != nil:
		return judgeTDX(*r.TDX)
	case r.TDXFields != nil:
		return tdxFields(r.TDXFields)
	case r.EventLog != nil:
		return judgeEventLog(*r.EventLog)
	}
	return nil
}
