// Command imagetest builds the guest image, computes what it will measure, and boots it: under UEFI firmware, with a software TPM,
// emulated, and with the broker outside, on this machine. A guest of the image gets the key of the volume with its state, that of its classifier, and answers;
// guests of images that differ in one place are refused, and so is a volume that was put back. It prints a table of the registers that were computed
// before the boot and quoted in it, and what each boot cost.
//
// The image has no login, so what is to be seen from outside has to come out by itself: the images of this test, and only
// those, have one more unit, which runs this program with -inside. It writes lines to a port that the emulator has for it.
//
// Run it with make image-test (root).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// patience bounds each boot: the agent answers within a minute on an idle processor.
const patience = 5 * time.Minute

func main() {
	var h host
	flag.StringVar(&h.trees, "trees", "", "directory made by .ci/boot-trees")
	flag.StringVar(&h.bin, "bin", "bin", "directory of the programs, as make build builds them")
	flag.StringVar(&h.initrd, "initrd", "bin/anchorhold-initrd", "the program of the initial RAM disk")
	flag.StringVar(&h.classifiers, "classifiers", "", "directory with digits.onnx and its data")
	flag.StringVar(&h.pattern, "only", "", "regular expression of the boots to try, besides the first two (default all)")
	flag.DurationVar(&h.patience, "patience", patience, "time for one boot; raise it on a slow or busy machine")
	flag.BoolVar(&h.keep, "keep", false, "keep images and logs")
	inside := flag.Bool("inside", false, "report from the guest: this is the guest")
	flag.IntVar(&h.lanes, "lanes", 2, "machines that run at the same time, 1 or 2")
	pipe := flag.String("pipe", "", "connect standard input and output to an address: the guest's way to the broker")
	asked := flag.String("asked", "", "with -pipe: count connections about volumes in this file, and let only the first one pass")
	flag.Parse()
	switch {
	case *inside:
		exit(report())
	case *pipe != "":
		exit(connect(*pipe, *asked))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := h.run(ctx)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "\nimagetest: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}
