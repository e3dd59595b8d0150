package main

import (
	"context"
	"fmt"
	"github.com/anchorhold/anchorhold/agent/settings"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/anchorhold/anchorhold/agent"
)

// run starts the daemon from a configuration file.
func run(ctx context.Context, path string, complaint io.Writer) int {
	cfg, findings, err := settings.Read(path)
	if err == nil {
		err = findings.Runnable()
	}
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %s: %v\n  hint: anchorhold-agent check %s\n", path, err, path)
		return 2
	}
	log := logger(cfg.Log, complaint)
	for _, notice := range findings.Notices {
		log.Info("notice", "text", notice)
	}
	col, software, err := newCollector(cfg, log)
	if err != nil {
		fmt.Fprintf(complaint, "anchorhold-agent: %v\n  hint: anchorhold doctor tells what this machine lacks\n", err)
		return 1
	}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)
	err = agent.Run(ctx, agent.Options{ConfigPath: path, Config: cfg, Collector: col, SoftwareTEE: software, Version: version, Logger: log, Reload: reload})
	if err != nil {
		log.Error("agent ended", "err", err)
		return 1
	}
	log.Info("agent ended; keys and weights are wiped")
	return 0
}

func logger(cfg settings.Log, out io.Writer) *slog.Logger {
	var level slog.Level
	if cfg.Level != "" && level.UnmarshalText([]byte(cfg.Level)) != nil {
		level = slog.LevelInfo // the configuration was checked
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "json" {
		return slog.New(slog.NewJSONHandler(out, options))
	}
	return slog.New(slog.NewTextHandler(out, options))
}
