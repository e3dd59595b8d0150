package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/anchorhold/anchorhold/agent/hardware"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure"
	"github.com/anchorhold/anchorhold/systemd/journal"
)

// checkCommand checks a file on this machine, or in the tree of an image.
func checkCommand(ctx context.Context, args []string, out io.Writer, complaint *journal.Output) int {
	if len(args) > 0 && args[0] == "--root" {
		return checkTree(args[1:], out, complaint)
	}
	path, code := fileOf("check", args, out, complaint)
	if path == "" {
		return code
	}
	return check(ctx, path, out)
}

// check prints what is wrong with a file or missing on this machine, and what an admin
// should know. What run would refuse at the start, it refuses.
func check(ctx context.Context, path string, out io.Writer) int {
	cfg, findings, err := settings.Read(path)
	if err != nil {
		fmt.Fprintf(out, "error: %v\n", err)
		return 2
	}
	findings.Add(cfg.CheckMachine())
	checkMemory(cfg, &findings)
	if len(findings.Errors) == 0 {
		if err := tenure.PrintMemory(out, cfg); err != nil {
			findings.Errors = append(findings.Errors, err.Error())
		}
	}
	if slices.Contains(settings.Providers(), cfg.Compute.TEE.Provider) {
		notice, err := checkCollector(ctx, cfg)
		if err != nil {
			findings.Errors = append(findings.Errors, err.Error())
		}
		if notice != "" {
			findings.Notices = append(findings.Notices, notice)
		}
	}
	if cfg.LocalRestart.Seal != "" && !cfg.Compute.Software() {
		if _, err := hardware.Sealer(cfg); err != nil {
			findings.Errors = append(findings.Errors, err.Error())
		}
	}
	if err := cfg.CheckWorker(); err != nil {
		fmt.Fprintf(out, "warning: %v\n", err)
	}
	return findings.Print(out, path)
}

// checkMemory finds parts of the memory limit that are more than it.
func checkMemory(cfg settings.Config, f *settings.Findings) {
	if err := tenure.Fits(cfg, 0, false); err != nil {
		f.Errors = append(f.Errors, err.Error())
	}
}

// agentFile is where the agent's unit reads its configuration.
const agentFile = "/etc/anchorhold/agent.yaml"

// checkTree is [check] of a file in the tree of an image, with the files that lie there. It asks nothing of this machine:
// whoever builds images has no TEE.
func checkTree(args []string, out io.Writer, complaint *journal.Output) int {
	if len(args) < 1 || len(args) > 2 || slices.ContainsFunc(args, func(arg string) bool { return arg == "" || strings.HasPrefix(arg, "-") }) {
		fmt.Fprintf(complaint, "anchorhold-agent check --root needs a directory: anchorhold-agent check --root DIR [FILE]; FILE is the path in the guest, %s if omitted\n", agentFile)
		return 2
	}
	root, path := args[0], agentFile
	if len(args) == 2 {
		path = args[1]
	}
	cfg, findings, read, err := settings.ReadTree(root, path)
	if err != nil {
		fmt.Fprintf(out, "error: %v\n", err)
		return 2
	}
	if !read && len(findings.Errors) == 0 {
		for _, notice := range findings.Notices {
			fmt.Fprintf(out, "notice: %s\n", notice)
		}
		return 0
	}
	findings.Add(cfg.CheckTree(root))
	checkMemory(cfg, &findings)
	return findings.Print(out, filepath.Join(root, path))
}

// fileOf is the file that a command is given, alone or with --config as "run" and the other daemons
// take it; empty, with the exit code, if it is not.
func fileOf(command string, args []string, out io.Writer, complaint *journal.Output) (path string, code int) {
	switch {
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		fmt.Fprint(out, usage)
		return "", 0
	case len(args) == 2 && args[0] == "--config":
		args = args[1:]
	}
	if len(args) != 1 || strings.HasPrefix(args[0], "-") || args[0] == "" {
		fmt.Fprintf(complaint, "anchorhold-agent %s needs one file: anchorhold-agent %[1]s FILE\n", command)
		return "", 2
	}
	return args[0], 0
}
