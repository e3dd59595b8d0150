package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
)

// keyHolders are the guests that hold a key together; two of them decrypt.
func keyHolders() []int { return []int{0, 3, 5} }

// setUpKey has the key holders make a key that none of them has whole.
func (d *fedDemo) setUpKey(ctx context.Context) (string, error) {
	args := []string{"fed", "key", "open", "--threshold", "2", "--aggregator", d.path("admin.sock")}
	for _, i := range keyHolders() {
		var st struct {
			Agent struct {
				Key string `json:"agent_key"`
			} `json:"agent"`
		}
		out, err := d.tool(ctx, "status", "--json", "--agent", d.socket(i), "--broker", d.path("no-broker.sock"))
		if err == nil {
			err = json.Unmarshal(out, &st)
		}
		if err != nil {
			return "", err
		}
		args = append(args, "--agent", st.Agent.Key)
	}
	var setup struct {
		Round string `json:"round"`
	}
	if err := d.operate(ctx, &setup, args...); err != nil {
		return "", err
	}
	err := d.atOnce(keyHolders(), func(i int) error {
		_, err := d.tool(ctx, "fed", "key", "join", setup.Round, "--wait", "--json", "--agent", d.socket(i))
		return err
	})
	return setup.Round, err
}

// atOnce does something for several guests at the same time.
func (d *fedDemo) atOnce(guests []int, do func(int) error) error {
	errs := make([]error, len(guests))
	var running sync.WaitGroup
	for k, i := range guests {
		running.Go(func() { errs[k] = do(i) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// decryptTogether runs one round whose sum two of three participants open together;
// the broker has no key of it, nor has any guest.
func (d *fedDemo) decryptTogether(ctx context.Context) (string, error) {
	key, err := d.setUpKey(ctx)
	if err != nil {
		return "", err
	}
	round, err := d.openRound(ctx, "--key", key, "--root", d.path("root.key.pub"))
	if err != nil {
		return "", err
	}
	if err := d.trainAll(ctx, plainRounds); err != nil {
		return "", err
	}
	if err := d.submitAll(ctx, round, false); err != nil {
		return "", err
	}
	if err := d.operate(ctx, nil, "fed", "round", "close", round, "--aggregator", d.path("admin.sock")); err != nil {
		return "", err
	}
	holders := keyHolders()
	share := func(i int) error {
		_, err := d.tool(ctx, "fed", "key", "share", round, "--active", "1,3", "--wait", "--json", "--agent", d.socket(i))
		return err
	}
	if err := share(holders[0]); err != nil {
		return "", err
	}
	alone, err := refused(d.decryptAt(ctx, round, holders[0]), "shares-missing")
	if err != nil {
		return "", err
	}
	again, err := refused(share(holders[0]), "party-share-used")
	if err != nil {
		return "", err
	}
	if err := share(holders[2]); err != nil {
		return "", err
	}
	if err := d.decryptAt(ctx, round, holders[1]); err != nil {
		return "", err
	}
	one, err := refused(d.operate(ctx, nil, "fed", "round", "finish", round, "--aggregator", d.path("admin.sock")), "result-not-published")
	if err != nil {
		return "", err
	}
	if err := d.decryptAt(ctx, round, holders[2]); err != nil {
		return "", err
	}
	count, _, err := d.publish(ctx, round)
	if err != nil {
		return "", err
	}
	a, err := d.accuracy(ctx)
	return fmt.Sprintf("participants 0, 3 and 5 hold the key; one share alone: %s\na second share: %s\none party's result alone: %s\n0 and 5 together: %d contributions, accuracy %.3f", alone, again, one, count, a), err
}
