package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/anchorhold/anchorhold/agent"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/restart"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/systemd/journal"
)

// run starts the daemon from a configuration file.
func run(ctx context.Context, path string, complaint *journal.Output) int {
	// First of all: by itself the signal ends the process, and a start takes a while.
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	cfg, findings, err := settings.Read(path)
	if err == nil {
		err = findings.Runnable()
	}
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %s: %v\n  hint: anchorhold-agent check %s\n", path, err, path)
		return 2
	}
	log, err := complaint.Logger(cfg.Log.Level, cfg.Log.Format)
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: log: %v\n", err)
		return 2
	}
	for _, notice := range findings.Notices {
		log.Info("notice", "text", notice)
	}
	if err := cfg.CheckWorker(); err != nil {
		log.Warn("a worker's program", "err", err)
	}
	col, software, err := newCollector(ctx, cfg, log)
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %v\n  hint: anchorhold doctor shows what this machine lacks\n", err)
		return 1
	}
	opt := agent.Options{ConfigPath: path, Config: cfg, Collector: col, SoftwareTEE: software, Version: version, Logger: log, Reload: reload}
	if cfg.LocalRestart.Seal != "" {
		sealer, err := sealerOf(ctx, cfg)
		if err != nil {
			fmt.Fprintf(complaint, "anchorhold-agent: %v\n", err)
			return 1
		}
		opt.Restarts = restart.With(sealer, protocol.ParseSealing(cfg.LocalRestart.Seal))
	}
	err = agent.Run(ctx, opt)
	if err != nil {
		log.Error("agent ended", "err", err)
		return 1
	}
	log.Info("agent ended; keys and weights are wiped")
	return 0
}
