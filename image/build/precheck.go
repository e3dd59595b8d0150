package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Architecture is that of all images: the boot stub, the console and the modules are of such machines.
const Architecture = "amd64"

// The packages without which a guest has no agent, and the program that the second one has.
const (
	commonPackage = "anchorhold-common"
	agentPackage  = "anchorhold-agent"
	agentProgram  = "usr/bin/anchorhold-agent"
)

// checkTime is far more than an agent takes to read its configuration.
const checkTime = time.Minute

// maxProgramBytes bounds what is taken out of a package.
const maxProgramBytes = 256 << 20

// checkPackages refuses packages that dpkg would refuse after minutes, in the middle of much else, and an image without
// an agent. It returns the agent's package.
func (i *Image) checkPackages(ctx context.Context) (agent string, err error) {
	var errs []error
	named := map[string]string{}
	for _, p := range i.Packages {
		name, architecture, err := packageOf(ctx, p)
		switch {
		case err != nil:
			errs = append(errs, err)
		case architecture != Architecture && architecture != "all":
			errs = append(errs, fmt.Errorf("package: %s is for %s, and images are for %s", p, architecture, Architecture))
		case named[name] != "":
			errs = append(errs, fmt.Errorf("package: %s and %s are both %s", named[name], p, name))
		default:
			named[name] = p
		}
	}
	if len(errs) > 0 {
		return "", errors.Join(errs...)
	}
	for _, name := range []string{commonPackage, agentPackage} {
		if named[name] == "" {
			errs = append(errs, fmt.Errorf("package: %s is missing: the image would have no agent", name))
		}
	}
	return named[agentPackage], errors.Join(errs...)
}

// packageOf reads a package's name and architecture.
func packageOf(ctx context.Context, file string) (name, architecture string, err error) {
	out, err := output(exec.CommandContext(ctx, "dpkg-deb", "--field", file, "Package", "Architecture"))
	if err != nil {
		return "", "", fmt.Errorf("package: %s: %w", file, err)
	}
	for line := range strings.Lines(string(out)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), ": "); key {
		case "Package":
			name = value
		case "Architecture":
			architecture = value
		}
	}
	if name == "" || architecture == "" {
		return "", "", fmt.Errorf("package: %s names no package or no architecture", file)
	}
	return name, architecture, nil
}

// checkConfigurations has the agent that the image will have read the publisher's files: what it refuses here it would
// refuse at the guest's first boot, where nobody logs in to see it.
func (i *Image) checkConfigurations(ctx context.Context, agent string) (err error) {
	var checks [][]string
	for _, file := range []string{"/etc/anchorhold/agent.yaml", "/etc/anchorhold/agent-unlock.yaml"} {
		if _, err := os.Lstat(filepath.Join(i.Files, file)); err == nil {
			checks = append(checks, []string{"check", "--root", i.Files, file})
		}
	}
	volumes := filepath.Join(i.Files, "etc/anchorhold/volumes.yaml")
	if _, err := os.Lstat(volumes); err == nil {
		checks = append(checks, []string{"volume", "check", volumes})
	}
	if !slices.ContainsFunc(checks, func(c []string) bool { return c[len(c)-1] == "/etc/anchorhold/agent.yaml" }) {
		i.Say("NOTE: there is no etc/anchorhold/agent.yaml in --files: without a configuration the agent does not start")
	}
	if len(checks) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp("", "anchorhold-image-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	program := filepath.Join(dir, "anchorhold-agent")
	if err := programOf(ctx, agent, program); err != nil {
		return fmt.Errorf("package: %s: %w", agent, err)
	}
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	var errs []error
	for _, args := range checks {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = i.Tools.environment()
		cmd.WaitDelay = time.Second
		said, err := cmd.CombinedOutput()
		if err != nil {
			errs = append(errs, fmt.Errorf("files: %s is refused by the agent (anchorhold-agent %s): %w\n%s", args[len(args)-1], strings.Join(args, " "), err, said))
			continue
		}
		for line := range strings.Lines(string(said)) {
			i.Say("%s", strings.TrimSuffix(line, "\n"))
		}
	}
	return errors.Join(errs...)
}

// programOf takes the agent's program out of its package.
func programOf(ctx context.Context, file, to string) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // what is behind the program is not read
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", file)
	archive, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	found, err := extract(archive, to)
	if found || err != nil {
		cancel()
		_ = cmd.Wait() // it was ended
		return err
	}
	return errors.Join(fmt.Errorf("it has no program /%s", agentProgram), cmd.Wait())
}

// extract writes the agent's program of an archive into a new file.
func extract(archive io.Reader, to string) (found bool, err error) {
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if clean(h.Name) != agentProgram || h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Size > maxProgramBytes {
			return false, fmt.Errorf("its program has %d bytes, want at most %d", h.Size, maxProgramBytes)
		}
		const executable = 0o700
		out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, executable)
		if err != nil {
			return false, err
		}
		_, err = io.Copy(out, r)
		return true, errors.Join(err, out.Close())
	}
}
