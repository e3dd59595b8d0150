package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/anchorhold/anchorhold/image/build"
	"github.com/spf13/cobra"
)

// options are the flags of the program.
type options struct {
	name, base, files, initrd, tools, out string
	packages, words                       []string
}

func newImage(inv *cli.Invocation) *cobra.Command {
	var o options
	c := &cobra.Command{Use: imageUse, Short: imageShort, Long: imageLong, Example: imageExample, RunE: inv.RunE(o.run, "name", "base", "package", "out")}
	c.Flags().StringVar(&o.name, "name", "", flagName)
	c.Flags().StringVar(&o.base, "base", "", flagBase)
	c.Flags().StringArrayVar(&o.packages, "package", nil, flagPackage)
	c.Flags().StringVar(&o.files, "files", "", flagFiles)
	c.Flags().StringVar(&o.initrd, "initrd", defaultInitrd, flagInitrd)
	c.Flags().StringArrayVar(&o.words, "option", nil, flagOption)
	c.Flags().StringVar(&o.tools, "tools", "", flagTools)
	c.Flags().StringVar(&o.out, "out", "", flagOut)
	return c
}

func (o *options) run(ctx context.Context, inv *cli.Invocation, _ []string) error {
	when, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
	if err != nil {
		return cli.Usage(err)
	}
	i := build.Image{Name: o.name, Files: o.files, Options: o.words, Tools: build.Tools{When: when},
		Say: func(format string, args ...any) { fmt.Fprintf(inv.Err, format+"\n", args...) }}
	for _, p := range []struct{ from, to *string }{{&o.base, &i.Base}, {&o.initrd, &i.Initrd}, {&o.tools, &i.Tools.Tree}, {&o.out, &i.Out}} {
		if *p.from == "" {
			continue
		}
		if *p.to, err = filepath.Abs(*p.from); err != nil {
			return err
		}
	}
	for _, p := range o.packages {
		path, err := filepath.Abs(p)
		if err != nil {
			return err
		}
		i.Packages = append(i.Packages, path)
	}
	m, err := i.Build(ctx)
	if err != nil {
		return err
	}
	return inv.Print(m, func(w io.Writer) {
		for _, f := range m.Files {
			fmt.Fprintf(w, fileText, f.Name, f.Bytes, f.SHA256)
		}
		fmt.Fprintf(w, madeText, m.RootHash, len(m.Packages), filepath.Join(o.out, o.name+".json"))
	})
}

// sourceDate reads the one time that an image has. There is no default: an image of the present time is no other's.
func sourceDate(text string) (time.Time, error) {
	n, err := strconv.ParseInt(text, 10, 63)
	if err != nil || n <= 0 {
		return time.Time{}, errors.New(needsDate)
	}
	return time.Unix(n, 0).UTC(), nil
}
