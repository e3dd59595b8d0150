package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os/user"
	"strconv"

	"github.com/anchorhold/anchorhold/agent/volume"
	"github.com/anchorhold/anchorhold/systemd/journal"
)

// agentGroup may read the validated headers of volumes.
const agentGroup = "anchorhold-agent"

// volumeCommand opens or closes one volume.
func volumeCommand(ctx context.Context, args []string, complaint *journal.Output) int {
	flags := flag.NewFlagSet("volume", flag.ContinueOnError)
	flags.SetOutput(complaint)
	path := flags.String("config", "/etc/anchorhold/volumes.yaml", "configuration file")
	if len(args) == 0 || args[0] != "open" && args[0] != "close" || flags.Parse(args[1:]) != nil || flags.NArg() != 1 {
		fmt.Fprintln(complaint, "usage: anchorhold-agent volume open|close [--config FILE] NAME")
		return 2
	}
	logger, err := complaint.Logger("info", "")
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: log: %v\n", err)
		return 2
	}
	if err := withVolume(ctx, args[0], *path, flags.Arg(0), logger); err != nil {
		logger.Error("volume "+args[0]+" failed", "volume", flags.Arg(0), "err", err)
		return 1
	}
	return 0
}

func withVolume(ctx context.Context, command, path, name string, logger *slog.Logger) error {
	cfg, err := volume.ReadConfig(path)
	if err != nil {
		return err
	}
	v, err := cfg.Find(name)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
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
