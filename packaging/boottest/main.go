// Command boottest boots a real Debian 13 with the daemons installed as an administrator would
// install them, and checks what only a booted machine can show: units, sockets, groups, watchdogs,
// credentials from a TPM, memory limits and workers.
//
// It runs in two places. On the host it makes the broker, the keys and a sealed classifier, puts
// them on a disk, boots that under QEMU (emulation, no KVM) with a software TPM, and prints what the
// guest reports. In the guest the same program is a service that runs the checks and writes a line
// for each to the second serial port. The exit status is 0 if every check ran and passed. Run it
// with make boot-test.
//
// With -exposure it audits where plaintext is instead: it has secrets of the run used in such a guest,
// and searches guest, host and the broker's host for them at each moment of their life. Then the guest
// does what the host says, over the network. Run it with make exposure-test.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// deadline bounds the guest from power-on to power-off by default. An emulated boot takes half
// a minute on an idle processor, and the checks three.
const deadline = 12 * time.Minute

func main() {
	var h host
	inside := flag.Bool("inside", false, "run the checks: this is the guest")
	flag.StringVar(&h.trees, "trees", "", "directory made by .ci/boot-trees")
	flag.StringVar(&h.bin, "bin", ".cache/demo-bin", "directory of the programs (built with the tag softtee)")
	flag.StringVar(&h.classifiers, "classifiers", "", "directory with digits.onnx and its data")
	flag.StringVar(&h.only, "only", "", "regular expression of the checks to run (default all)")
	flag.DurationVar(&h.deadline, "deadline", deadline, "time from power-on to power-off; raise it on a slow or busy machine, since every wait in the guest scales with it")
	flag.BoolVar(&h.keep, "keep", false, "keep the disk and the logs")
	var x auditor
	audit := flag.Bool("exposure", false, "audit where plaintext is, instead of the checks")
	flag.StringVar(&x.kernelArguments, "kernel-arguments", "init_on_free=1", "more arguments for the kernel of an audited guest")
	flag.StringVar(&x.jsonFile, "json", "", "write all that an audit found to this file")
	part := flag.String("part", "", "take this part in an audit: audited, relay, or a role in the guest, with what it needs as arguments")
	path := flag.String("ask", "", "request a path from the agent in this guest and print the status")
	flag.Parse()
	if *path != "" {
		r, err := ask(http.MethodGet, *path, nil, time.Minute)
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(r.Status)
		return
	}
	if *part != "" {
		if err := takePart(*part, flag.Args()); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if *inside {
		os.Exit(checkAll(flag.Arg(0)))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := h.run
	if *audit {
		x.host = h
		run = x.run
	}
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\nboottest: %v\n", err)
		stop()
		os.Exit(1)
	}
}
