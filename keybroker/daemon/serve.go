package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/anchorhold/anchorhold/keybroker/operator"
	"github.com/anchorhold/anchorhold/keybroker/statedir"
	"github.com/anchorhold/anchorhold/systemd/deadline"
	"github.com/anchorhold/anchorhold/systemd/service"
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
	d.step("writing the start to the audit log")
	if err := d.log.RecordSetBack(ctx); err != nil {
		return errors.Join(err, guests.Close(), operators.Close())
	}
	if err := d.log.Event(ctx, "start", fmt.Sprintf("version %s, %s, software TEE accepted: %t", d.opts.Version, d.opts.Build, d.opts.Config.SoftwareTEERoot != "")); err != nil {
		return errors.Join(err, guests.Close(), operators.Close())
	}
	if err := errors.Join(d.secrets.Agree(ctx), d.ended.Keep()); err != nil {
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
	start(func(ctx context.Context) error { deadline.New(d.opts.Logger).Run(ctx, d.opts.Now, d.dates); return nil })
	if s, ok := d.verifier.(Supplied); ok {
		start(s.Run)
	}
	if d.rounds != nil {
		start(d.rounds.Keep)
	}
	start(d.volumes.Keep)
	if d.registry != nil {
		start(d.registry.Serve)
	}
	start(func(ctx context.Context) error { return service.RunWatchdog(ctx, d.opts.Logger, d.healthy) })
	start(func(ctx context.Context) error { return service.ServeReload(ctx, d.reloading.Ask) })
	d.opts.Logger.Info("broker serves", "address", address, "socket", d.opts.Config.Operator.Socket, "policy", d.policyName())
	d.tell(service.Ready(d.serving()))
	<-ctx.Done()
	d.tell(service.Stopping())
	d.opts.Logger.Info("broker stops")
	wg.Wait()
	stop := errors.Join(d.log.Event(context.WithoutCancel(ctx), "stop", ""), d.secrets.KeepAudited(context.WithoutCancel(ctx)))
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, stop)
	}
	return stop
}

// listenGuests opens the port that guests come to.
func (d *daemon) listenGuests(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", d.opts.Config.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w: another program uses this port (ss -ltnp shows which); stop it, or choose another port", err)
	}
	if err != nil {
		return nil, fmt.Errorf("listen for guests: %w", err)
	}
	return l, nil
}

func (d *daemon) listen(ctx context.Context) (guests, operators net.Listener, err error) {
	c := d.opts.Config
	if guests = d.opts.Listener; guests == nil {
		if guests, err = d.listenGuests(ctx); err != nil {
			return nil, nil, err
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

// maintain signs the log now and then, heals it after a failure and reloads on
// request.
func (d *daemon) maintain(ctx context.Context) error {
	checkpoint := time.NewTicker(d.opts.Config.CheckpointEvery())
	defer checkpoint.Stop()
	heal := time.NewTicker(healEvery)
	defer heal.Stop()
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	reload := func() error { return d.reload(ctx) }
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-checkpoint.C:
			if _, err := d.log.Checkpoint(ctx); err != nil {
				d.opts.Logger.Error("audit checkpoint failed", "err", err)
			}
			if err := d.secrets.KeepAudited(ctx); err != nil {
				d.opts.Logger.Error("the key store does not say how far it was held against the audit log", "err", err)
			}
		case <-heal.C:
			d.healLog(ctx)
		case <-poll.C:
			d.pollLists()
		case <-d.opts.Reload:
			_ = d.reloading.Do(reload) // it is in the log
		case answer := <-d.reloading.Asked:
			answer <- d.reloading.Do(reload)
		}
	}
}

// reloadAfter is far more than the files of a reload take.
const reloadAfter = 2 * time.Minute

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
	if err := d.log.Event(ctx, "audit-healed", ""); err != nil {
		d.opts.Logger.Error("audit log failed again", "err", err)
	}
}

// healthy asks the parts that could hang. A full disk is not ill health: the
// broker refuses, says so, and a restart would not help.
func (d *daemon) healthy(context.Context) error {
	if err := d.reloading.Stuck(reloadAfter); err != nil {
		return err
	}
	_, err := d.secrets.Count()
	d.log.Size()
	return err
}

// reload reads certificate, epochs, policies and revocation lists again. What does not load
// stays as it was.
func (d *daemon) reload(ctx context.Context) error {
	d.tell(service.Reloading())
	var failed []error
	for _, part := range []struct {
		name string
		load func() error
	}{{"configuration", func() error { return d.opts.Config.Changed(d.opts.ConfigPath) }}, {"certificate", d.reloadCertificate}, {"epochs", d.epochs.Reload}, {"policies", d.policies.Reload}, {"revocation lists", d.loadLists}} {
		if err := part.load(); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", part.name, statedir.ExplainAccess(err)))
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
	if err := d.log.Event(ctx, "reload", detail[:min(len(detail), 1000)]); err != nil {
		d.opts.Logger.Error("reload not recorded", "err", err)
	}
	d.tell(service.Ready(d.serving()))
	return err
}

// reloadCertificate reads the TLS certificate again. Guests that were shown another one are
// to connect anew.
func (d *daemon) reloadCertificate() error {
	before := d.certificate.current.Load()
	if err := d.certificate.load(); err != nil {
		return err
	}
	if !slices.EqualFunc(before.Certificate, d.certificate.current.Load().Certificate, bytes.Equal) {
		d.broker.DropKept()
	}
	return nil
}

// tell logs that the service manager could not be told something.
func (d *daemon) tell(err error) {
	if err != nil {
		d.opts.Logger.Warn("service manager not told", "err", err)
	}
}

// serving is what the broker does, for the service manager; the log says why it does not.
func (d *daemon) serving() string {
	until := d.broker.ClockBehind()
	if until.IsZero() {
		return "serving " + *d.address.Load()
	}
	d.log.TellBehind(until)
	return "refusing every guest until " + until.Format(time.RFC3339) + ": the clock was set back"
}
