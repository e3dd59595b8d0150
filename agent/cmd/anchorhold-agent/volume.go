package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/anchorhold/anchorhold/agent/volume"
	"github.com/anchorhold/anchorhold/systemd/journal"
)

// agentGroup may read the validated headers of volumes.
const agentGroup = "anchorhold-agent"

const volumeUsage = `usage: anchorhold-agent volume open|close [--config FILE] NAME
       anchorhold-agent volume check FILE
`

// volumeCommand opens or closes one volume, or checks the file of all.
func volumeCommand(ctx context.Context, args []string, out io.Writer, complaint *journal.Output) int {
	if slices.ContainsFunc(args, func(arg string) bool { return arg == "-h" || arg == "--help" }) {
		fmt.Fprint(out, volumeUsage)
		return 0
	}
	if len(args) > 0 && args[0] == "check" {
		path, code := fileOf("volume check", args[1:], out, complaint)
		if path == "" {
			return code
		}
		return checkVolumes(path, out)
	}
	flags := flag.NewFlagSet("volume", flag.ContinueOnError)
	flags.SetOutput(complaint)
	flags.Usage = func() {} // below
	path := flags.String("config", "/etc/anchorhold/volumes.yaml", "configuration file")
	if len(args) == 0 || args[0] != "open" && args[0] != "close" || flags.Parse(args[1:]) != nil || flags.NArg() != 1 {
		fmt.Fprint(complaint, volumeUsage)
		return 2
	}
	logger, err := complaint.Logger("info", "")
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: log: %v\n", err)
		return 2
	}
	name := flags.Arg(0)
	v, err := volumeOf(*path, name)
	if err != nil {
		failed(complaint, args[0], name, err)
		return 2
	}
	if err := withVolume(ctx, args[0], v, logger); err != nil {
		failed(complaint, args[0], name, err)
		return 1
	}
	return 0
}

// failed says why, on standard error: the journal has it under the unit's name even if this process is gone before it
// is read. Of a message to the journal's socket the sender is looked up then, and the busy guest's journal lost the unit.
func failed(complaint *journal.Output, command, name string, err error) {
	fmt.Fprintf(complaint, "error: volume %s failed volume=%s err=%q\n", command, name, err.Error())
}

// checkVolumes is for whoever builds an image: the guest would say the same at its first boot.
func checkVolumes(path string, out io.Writer) int {
	cfg, err := volume.ReadConfig(path)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			fmt.Fprintf(out, "error: %s\n", strings.TrimSuffix(line, "\n"))
		}
		return 2
	}
	for _, v := range cfg.Volumes {
		fmt.Fprintf(out, "volume %s: %s, key %s\n", v.Name, v.Device, v.Key)
	}
	fmt.Fprintf(out, "%s is valid\n", path)
	return 0
}

func volumeOf(path, name string) (volume.Volume, error) {
	cfg, err := volume.ReadConfig(path)
	if err != nil {
		return volume.Volume{}, err
	}
	v, err := cfg.Find(name)
	if err != nil {
		return volume.Volume{}, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

func withVolume(ctx context.Context, command string, v volume.Volume, logger *slog.Logger) error {
	opener := &volume.Opener{System: volume.Linux{}, Headers: "/run/anchorhold-volumes", Crypttab: "/etc/crypttab", Logger: logger,
		Agent: func(socket string) volume.Agent { return volume.NewLocal(socket) }}
	if g, err := user.LookupGroup(agentGroup); err == nil { // without it root alone reads the headers
		if opener.HeaderGID, err = strconv.Atoi(g.Gid); err != nil {
			return err
		}
	}
	if command == "open" {
		return opener.Open(ctx, v)
	}
	return opener.Close(ctx, v)
}
