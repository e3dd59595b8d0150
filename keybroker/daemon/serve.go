package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/operator"
)

const healEvery = 10 * time.Second

// serve runs the broker and the operator socket until ctx ends or one fails.
func (d *daemon) serve(ctx context.Context) error {
	guests, operators, err := d.listen(ctx)
	if err != nil {
		return err
	}
	address := guests.Addr().String()
	d.address.Store(&address)
	if err := d.record(ctx, "start", fmt.Sprintf("version %s, %s, software TEE accepted: %t", d.opts.Version, d.opts.Build, d.opts.Config.SoftwareTEERoot != "")); err != nil {
		return errors.Join(err, guests.Close(), operators.Close())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	start := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	start(func(ctx context.Context) error { return d.broker.Serve(ctx, guests) })
	start(func(ctx context.Context) error { return d.operators.Serve(ctx, operators) })
	start(d.maintain)
	d.opts.Logger.Info("broker serves", "address", address, "socket", d.opts.Config.Operator.Socket, "policy", d.policyName())
	d.tell(func(s Supervisor) error { return s.Ready("serving " + address) })
	<-ctx.Done()
	d.tell(Supervisor.Stopping)
	d.opts.Logger.Info("broker stops")
	wg.Wait()
	stop := d.record(context.WithoutCancel(ctx), "stop", "")
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, stop)
	}
	return stop
}

func (d *daemon) listen(ctx context.Context) (guests, operators net.Listener, err error) {
	c := d.opts.Config
	if guests = d.opts.Listener; guests == nil {
		var lc net.ListenConfig
		if guests, err = lc.Listen(ctx, "tcp", c.Listen); err != nil {
			return nil, nil, fmt.Errorf("listen for guests: %w", err)
		}
	}
	if operators, err = operator.Listen(ctx, c.Operator.Socket, c.Operator.Group); err != nil {
		return nil, nil, errors.Join(err, guests.Close())
	}
	return guests, operators, nil
}

func (d *daemon) policyName() string {
	if p := d.policies.Current(); p != nil {
		return fmt.Sprintf("%s version %d", p.ID(), p.Version())
	}
	return "none: everything is refused"
}

// maintain signs the log now and then, heals it after a failure, feeds the
// watchdog and reloads on request.
func (d *daemon) maintain(ctx context.Context) error {
	checkpoint := time.NewTicker(d.opts.Config.checkpointEvery())
	defer checkpoint.Stop()
	heal := time.NewTicker(healEvery)
	defer heal.Stop()
	var beat <-chan time.Time
	if d.opts.Supervisor != nil && d.opts.Supervisor.Interval() > 0 {
		t := time.NewTicker(d.opts.Supervisor.Interval())
		defer t.Stop()
		beat = t.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-checkpoint.C:
			if _, err := d.log.Checkpoint(ctx); err != nil {
				d.opts.Logger.Error("audit checkpoint failed", "err", err)
			}
		case <-heal.C:
			d.healLog(ctx)
		case <-beat:
			if err := d.healthy(); err != nil {
				d.opts.Logger.Error("unhealthy", "err", err)
				continue
			}
			d.tell(Supervisor.Watchdog)
		case <-d.opts.Reload:
			d.reload(ctx)
		}
	}
}

// healLog opens the audit log anew after a failure, such as a full disk.
// Until that succeeds every release is refused.
func (d *daemon) healLog(ctx context.Context) {
	if d.log.Err() == nil {
		return
	}
	if err := d.log.Heal(ctx); err != nil {
		d.opts.Logger.Error("audit log is still unavailable; nothing is released", "err", err)
		return
	}
	if err := d.record(ctx, "audit-healed", ""); err != nil {
		d.opts.Logger.Error("audit log failed again", "err", err)
	}
}

// healthy asks the parts that could hang. A full disk is not ill health: the
// broker refuses, says so, and a restart would not help.
func (d *daemon) healthy() error {
	_, err := d.secrets.Count()
	return err
}

// reload reads certificate, epochs and policies again. What does not load
// stays as it was.
func (d *daemon) reload(ctx context.Context) {
	d.tell(Supervisor.Reloading)
	var failed []error
	for _, part := range []struct {
		name string
		load func() error
	}{{"certificate", d.certificate.load}, {"epochs", d.epochs.reload}, {"policies", d.policies.Reload}} {
		if err := part.load(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", part.name, err))
		}
	}
	err := errors.Join(failed...)
	detail := "policy " + d.policyName()
	if err != nil {
		detail = err.Error()
		d.opts.Logger.Error("reload failed in part; what failed stays as it was", "err", err)
	} else {
		d.opts.Logger.Info("reloaded", "policy", d.policyName())
	}
	if err := d.record(ctx, "reload", detail[:min(len(detail), 1000)]); err != nil {
		d.opts.Logger.Error("reload not recorded", "err", err)
	}
	d.tell(func(s Supervisor) error { return s.Ready("serving " + *d.address.Load()) })
}

func (d *daemon) tell(say func(Supervisor) error) {
	if d.opts.Supervisor == nil {
		return
	}
	if err := say(d.opts.Supervisor); err != nil {
		d.opts.Logger.Warn("supervisor not told", "err", err)
	}
}
