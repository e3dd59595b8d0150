// Command release makes the files of a release of Anchorhold in a directory: for each architecture
// an archive of the nine programs and a list of everything linked into them (CycloneDX), the
// checksums of these files, and a signature of the checksums.
//
// It builds the last commit, not the files that happen to be in the checkout, and builds it twice,
// in two places that share nothing on which a build should not depend: path, build cache, home and
// temporary directory, umask, time zone and locale. If a single byte differs there is no release,
// because then nobody else could tell whether a program comes from the sources that it claims.
//
// Run it with `make release`; docs/releases.md describes the files and how to check them.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == toolCommand {
		if err := runTool(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "release:", err)
			os.Exit(1)
		}
		return
	}
	var o options
	flag.StringVar(&o.tree, "tree", ".", "checkout whose last commit is built")
	flag.StringVar(&o.out, "out", "dist", "directory to create for the release")
	flag.StringVar(&o.version, "version", "", "version that the programs print (default: the output of git describe)")
	flag.StringVar(&o.key, "key", "", "publisher's key file (default: a throwaway key)")
	flag.StringVar(&o.credential, "credential", "", "file with the credential that unlocks the key")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "release: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		stop()
		os.Exit(1)
	}
}
