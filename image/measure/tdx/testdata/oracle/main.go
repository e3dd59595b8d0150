// Command oracle prints MRTD of each firmware image that it is given, as Google's gce-tcb-verifier computes it. It
// is a module of its own, so that this project's does not have that one's requirements; TestMRTDBesideGoogles builds it.
package main

import (
	"fmt"
	"os"

	"github.com/google/gce-tcb-verifier/tdx"
)

func main() {
	for _, name := range os.Args[1:] {
		raw, err := os.ReadFile(name)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		mrtd, err := tdx.MRTD(&tdx.LaunchOptions{}, raw)
		if err != nil {
			fmt.Fprintln(os.Stderr, name, err)
			os.Exit(1)
		}
		fmt.Printf("%x\n", mrtd)
	}
}
