// Command treedebs makes deb packages of this checkout and of programs that were built of it, for images and tests; those
// of a release come from make release.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"time"

	"github.com/anchorhold/anchorhold/packaging/packages"
)

func main() {
	bin := flag.String("bin", "bin", "directory of the programs")
	out := flag.String("out", "", "directory for the packages")
	version := flag.String("version", "", "version, as git describe writes it")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *bin, *out, *version, os.Getenv("SOURCE_DATE_EPOCH")); err != nil {
		fmt.Fprintln(os.Stderr, "treedebs:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, bin, out, version, date string) error {
	seconds, err := strconv.ParseInt(date, 10, 64)
	if err != nil {
		return fmt.Errorf("SOURCE_DATE_EPOCH is required: the time of the commit (%w)", err)
	}
	_, err = packages.FromTree(ctx, ".", bin, out, version, time.Unix(seconds, 0))
	return err
}
