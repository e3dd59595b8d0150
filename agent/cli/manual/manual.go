// Package manual writes manual pages: of the command line from its commands ([Tree]), and of other
// programs from the text that they print as help ([FromHelp]), so that a page says what its
// program says.
//
// It stands in for cobra's generator, which goes through Markdown and would link a parser of it
// into the program.
package manual

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/anchorhold/anchorhold/agent/cli"
	"github.com/spf13/cobra"
)

// New is the command that writes the pages of the whole command line. Packages are made with it;
// people have --help.
func New(inv *cli.Invocation) *cobra.Command {
	return &cobra.Command{
		Use: "manual DIRECTORY", Short: "Write the manual pages of all commands into a directory", Args: cobra.ExactArgs(1), Hidden: true,
		Example: "  anchorhold release manual man1",
		RunE: func(c *cobra.Command, args []string) error {
			return inv.RunE(func(_ context.Context, _ *cli.Invocation, args []string) error {
				return write(args[0], Tree(c.Root()))
			})(c, args)
		},
	}
}

func write(dir string, pages map[string][]byte) error {
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(dir, name), page, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Tree has a page of section 1 for each command that is shown, by file name.
func Tree(root *cobra.Command) map[string][]byte {
	pages := map[string][]byte{}
	var add func(c *cobra.Command)
	add = func(c *cobra.Command) {
		pages[pageName(c)+".1"] = commandPage(c, root.Version)
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() && sub.Name() != "completion" {
				add(sub)
			}
		}
	}
	add(root)
	return pages
}

// pageName is the name as man finds it: anchorhold-audit-verify.
func pageName(c *cobra.Command) string { return strings.ReplaceAll(c.CommandPath(), " ", "-") }

func commandPage(c *cobra.Command, version string) []byte {
	p := newPage(pageName(c), "1", version)
	p.section("NAME")
	p.line(pageName(c) + " \\- " + escape(c.Short))
	p.section("SYNOPSIS")
	p.line(".B " + escape(c.UseLine()))
	p.section("DESCRIPTION")
	if c.Long != "" {
		p.body(c.Long)
	} else {
		p.body(c.Short + ".")
	}
	for _, flags := range []struct{ title, usages string }{
		{"OPTIONS", c.NonInheritedFlags().FlagUsages()}, {"OPTIONS OF ALL COMMANDS", c.InheritedFlags().FlagUsages()},
	} {
		if flags.usages != "" {
			p.section(flags.title)
			p.verbatim(flags.usages)
		}
	}
	if c.Example != "" {
		p.section("EXAMPLES")
		p.verbatim(c.Example)
	}
	var see []string
	if c.HasParent() {
		see = append(see, pageName(c.Parent())+"(1)")
	}
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() && sub.Name() != "completion" {
			see = append(see, pageName(sub)+"(1)")
		}
	}
	p.see(see)
	return p.text.Bytes()
}

// Program is what a page says of a program beside its help.
type Program struct {
	Name, Section string
	Short         string // what it is, for apropos
	Files, See    []string
}

// FromHelp makes the page of a program from its help. Help that is empty, or that never names
// the program, is another program's, and an error.
func FromHelp(prog Program, help, version string) ([]byte, error) {
	if !strings.Contains(help, prog.Name) {
		return nil, errors.New("the help of " + prog.Name + " does not name it")
	}
	p := newPage(prog.Name, prog.Section, version)
	p.section("NAME")
	p.line(prog.Name + " \\- " + escape(prog.Short))
	p.section("DESCRIPTION")
	p.body(help)
	if len(prog.Files) > 0 {
		p.section("FILES")
		p.verbatim(strings.Join(prog.Files, "\n"))
	}
	p.see(prog.See)
	return p.text.Bytes(), nil
}

// page is a page in the making, in the language of man(7).
type page struct{ text bytes.Buffer }

func newPage(name, section, version string) *page {
	p := &page{}
	fmt.Fprintf(&p.text, ".TH %q %s \"\" \"Anchorhold %s\" \"Anchorhold\"\n", strings.ToUpper(name), section, version)
	return p
}

func (p *page) section(title string) { p.line(".SH " + title) }
func (p *page) line(s string)        { p.text.WriteString(s + "\n") }

// body has each paragraph filled, except for those that are laid out in columns.
func (p *page) body(text string) {
	for paragraph := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		if strings.Contains(paragraph, "  ") {
			p.verbatim(paragraph)
			continue
		}
		p.line(".PP")
		for line := range strings.SplitSeq(paragraph, "\n") {
			p.line(escape(line))
		}
	}
}

func (p *page) verbatim(text string) {
	p.line(".PP\n.nf")
	for line := range strings.SplitSeq(strings.Trim(text, "\n"), "\n") {
		p.line(escape(line))
	}
	p.line(".fi")
}

func (p *page) see(pages []string) {
	if len(pages) > 0 {
		p.section("SEE ALSO")
		p.line(escape(strings.Join(pages, ", ")))
	}
}

// escape keeps roff from reading a line as its own: a backslash begins an escape, a dot or an
// apostrophe a request, and a plain hyphen is set as one that cannot be copied to a shell.
func escape(s string) string {
	s = strings.NewReplacer("\\", "\\e", "-", "\\-").Replace(strings.TrimRight(s, " "))
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		return "\\&" + s
	}
	return s
}
