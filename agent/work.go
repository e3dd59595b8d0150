package agent

import (
	"errors"
	"fmt"
	"time"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/localapi/oip"
	"github.com/anchorhold/anchorhold/agent/localapi/openai"
	"github.com/anchorhold/anchorhold/agent/localapi/workapi"
	proveassembly "github.com/anchorhold/anchorhold/agent/prove/assembly"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/agent/tenure/attested"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
	"github.com/anchorhold/anchorhold/keybroker/receipt"
)

// classifierMemory bounds all classifiers together; they are small.
const classifierMemory = 64 << 20

// prepareWork makes what answers and works besides the language model.
func (d *daemon) prepareWork() {
	if len(d.Config.Classifiers) > 0 {
		d.classifiers = classify.New(classify.Config{Memory: classifierMemory, AgentKey: d.guest.Key(), Lease: d.receiptLease, Logger: d.Logger})
		d.tenure.wiped = append(d.tenure.wiped, d.classifiers.Wipe)
		d.tenure.lapsed = d.classifiers.Lapse
	}
	if d.Config.Participates() || d.Config.Proves() {
		d.works = newWorks(worksHost{sign: d.sign, acquire: d.guest.Acquire, classifiers: d.classifiers, log: d.Logger})
		d.tenure.wiped = append(d.tenure.wiped, d.works.sessions.Pause)
	}
	d.keeper.granted, d.keeper.others = d.granted, d.openClassifiers
}

// mount makes the parts of the local API and mounts them.
func (d *daemon) mount(models gate) error {
	completions := &openai.Service{Models: models, MaxBodyBytes: d.Config.Socket.MaxBodyBytes}
	if err := completions.Mount(d.api); err != nil {
		return err
	}
	classifiers := d.serveClassifiers()
	if classifiers != nil {
		classifiers.Mount(d.api, models.Classifying)
	} else {
		oip.MountNone(d.api)
	}
	(&workapi.Service{Work: d.work(), Classifiers: classifiers}).Mount(d.api)
	return nil
}

// work is the long work, or nil.
func (d *daemon) work() func() (workapi.Work, error) {
	if d.works == nil {
		return nil
	}
	return d.works.work
}

// serveClassifiers is what the local API answers with, or nil.
func (d *daemon) serveClassifiers() *oip.Service {
	if d.classifiers == nil {
		return nil
	}
	return &oip.Service{Version: d.Version, Classifiers: d.classifiers, Clipped: d.classifiers.CountClipped, Proofs: func() (oip.Proofs, error) {
		if d.works == nil {
			return nil, proveassembly.NotConfigured()
		}
		return d.works.proofs()
	}}
}

// receiptLease is the lease that receipts of what a key opened are signed under now.
func (d *daemon) receiptLease(g classify.Grant) (receipt.Lease, error) {
	lease, err := d.tenure.leaseOf(g.Resource, grant{g.Version, g.Subject})
	if err != nil {
		return receipt.Lease{}, err
	}
	return leaseOf(lease, time.Now())
}

// granted hands a lease's keys to long work and to the classifiers.
func (d *daemon) granted(cfg settings.Config, lease *client.Lease, named named) error {
	if d.works != nil {
		if err := d.works.begin(cfg, lease); err != nil {
			return err
		}
	}
	if d.classifiers != nil {
		keys := map[string]classify.Key{}
		for _, c := range cfg.Classifiers {
			if k, ok := lease.Keys[c.Resource]; ok {
				keys[c.Resource] = classify.Key{Secret: k.Key, Version: k.Version, Subject: k.Subject, Next: named.next[c.Resource]}
			}
		}
		return kept(d.classifiers.Adopt(cfg.Classifiers, keys))
	}
	return nil
}

// kept is an error if the next file of a classifier is not served in the place of the one
// that is, and names all that failed. One that is not served at all says why to whoever asks and to the reload that
// brought it, and is tried again with the next lease.
func kept(list []classify.Unopened) error {
	var failed notOpened
	var why, none []error
	for _, u := range list {
		if u.Kept {
			failed.paths = append(failed.paths, u.Path)
			why = append(why, fmt.Errorf("the version before of classifier %s goes on: %w", u.Name, u.Err))
		} else {
			none = append(none, fmt.Errorf("classifier %s is not served: %w", u.Name, u.Err))
		}
	}
	if len(why) == 0 && len(none) > 0 {
		return unserved{errors.Join(none...)}
	}
	if len(why) == 0 {
		return nil
	}
	failed.error, failed.kept = errors.Join(append(why, none...)...), true
	return failed
}

// openClassifiers are the sealed files of the classifiers that are served.
func (d *daemon) openClassifiers() (list []opened) {
	if d.classifiers == nil {
		return nil
	}
	for _, o := range d.classifiers.Files() {
		list = append(list, opened{resource: o.Resource, file: protocol.File{ID: o.ID, Commitment: o.Commitment, Model: o.Model}})
	}
	return list
}

// sign is who signs under the lease that runs now.
func (d *daemon) sign() (attested.Signer, error) {
	lease, err := d.tenure.held()
	if err != nil {
		return attested.Signer{}, err
	}
	return d.guest.Signer(lease, time.Now()), nil
}
