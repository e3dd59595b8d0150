package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// RunWatchdog feeds the watchdog at a third of its interval for as long as check succeeds; a
// failing or hanging check starves it, and the service manager kills the daemon and starts
// another. Before that the log says why, once each time that health is lost. A lack of
// descriptors or memory while feeding counts as ill health too, because it may pass. Without a
// watchdog, RunWatchdog only waits for the context.
func RunWatchdog(ctx context.Context, log *slog.Logger, check func(context.Context) error) error {
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("read the watchdog's interval: %w", err)
	}
	if interval == 0 {
		<-ctx.Done()
		return nil
	}
	if check == nil || log == nil {
		return errors.New("the watchdog needs a health check and a log: nil never means healthy")
	}
	w := watchdog{log: log, limit: interval / 2, check: check}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := w.feed(ctx); err != nil {
				return err
			}
		}
	}
}

// watchdog remembers what was said about the daemon's health.
type watchdog struct {
	log   *slog.Logger
	limit time.Duration // of one check
	check func(context.Context) error
	sick  bool // and the log says so; of whoever runs or waits for the check
}

// feed feeds the watchdog if one check succeeds, which must end before the watchdog would.
// One that does not heed its time is logged all the same: nothing else would say why the
// process was killed.
func (w *watchdog) feed(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, w.limit)
	defer cancel()
	said := make(chan struct{})
	hangs := time.AfterFunc(w.limit, func() {
		defer close(said)
		if ctx.Err() == nil {
			w.fell(fmt.Errorf("no answer within %v", w.limit))
		}
	})
	err := w.check(limited)
	if !hangs.Stop() {
		<-said
	}
	if err == nil {
		err = limited.Err()
	}
	if ctx.Err() != nil { // the daemon stops, and with it what was checked
		return nil
	}
	if err == nil {
		if err = notify(daemon.SdNotifyWatchdog); err != nil && !transient(err) {
			return err
		}
	}
	switch {
	case err != nil:
		w.fell(err)
	case w.sick:
		w.sick = false
		w.log.Info("healthy again")
	}
	return nil
}

func (w *watchdog) fell(err error) {
	if !w.sick {
		w.sick = true
		w.log.Error("the health check failed; until it succeeds the service manager's watchdog is not fed", "err", err)
	}
}
