package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// toolCommand is the first argument with which go build starts this program in the place of a
// tool: `release tool MODULES /path/to/asm arguments`.
const toolCommand = "tool"

// toolMark tells the build cache that the assembler is not the plain one.
const toolMark = " without-module-paths"

// runTool runs a tool of Go's. The assembler is told to write no paths of the module cache:
// -trimpath cuts the directory of the package that is assembled, and not that of a file which it
// includes from another one, as gnark-crypto's do. Where the cache lies would stand in the
// programs, and nobody with another home directory could build them again.
func runTool(args []string) error {
	if len(args) < 2 {
		return errors.New("go build runs this command, not people")
	}
	modules, tool, rest := args[0], args[1], slices.Clone(args[2:])
	cmd := exec.Command(tool, rest...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if strings.TrimSuffix(filepath.Base(tool), ".exe") != "asm" {
		return cmd.Run()
	}
	if slices.Contains(rest, "-V=full") {
		cmd.Stdout = nil
		version, err := cmd.Output()
		fmt.Println(strings.TrimSuffix(string(version), "\n") + toolMark)
		return err
	}
	i := slices.Index(rest, "-trimpath")
	if i < 0 || i+1 == len(rest) {
		return errors.New("go build started the assembler without -trimpath")
	}
	cmd.Args[i+2] += ";" + modules + "=>" // Args[0] is the tool itself
	return cmd.Run()
}

// toolexec is the option that has go build run its tools through this program.
func (p place) toolexec() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	for _, path := range []string{self, p.modules} {
		if strings.ContainsAny(path, `'";`) {
			return "", fmt.Errorf("the path %s cannot be used in a go build option", path)
		}
	}
	return fmt.Sprintf("-toolexec='%s' %s '%s'", self, toolCommand, p.modules), nil
}
