package tenure

import (
	"errors"
	"fmt"

	"github.com/anchorhold/anchorhold/agent/classify"
	"github.com/anchorhold/anchorhold/agent/settings"
	"github.com/anchorhold/anchorhold/keybroker/client"
	"github.com/anchorhold/anchorhold/keybroker/protocol"
)

// Grant is a lease that was just granted, for those who take keys out of it.
type Grant struct {
	// Config is the configuration that it was asked for with.
	Config settings.Config
	// Lease has the keys. What nobody takes is wiped.
	Lease *client.Lease

	named named
}

// Adopt hands its keys to the classifiers. The error says which are not served, and whether
// those before them are.
func (g Grant) Adopt(service *classify.Service) error {
	keys := map[string]classify.Key{}
	for _, c := range g.Config.Classifiers {
		if k, ok := g.Lease.Keys[c.Resource]; ok {
			keys[c.Resource] = classify.Key{Secret: k.Key, Version: k.Version, Subject: k.Subject, Next: g.named.next[c.Resource]}
		}
	}
	return kept(service.Adopt(g.Config.Classifiers, keys))
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
			why = append(why, fmt.Errorf("the previous version of classifier %s stays in service: %w", u.Name, u.Err))
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

// classifierFiles are the sealed files of the classifiers that are served.
func classifierFiles(service *classify.Service) (list []opened) {
	for _, o := range service.Files() {
		list = append(list, opened{resource: o.Resource, file: protocol.File{ID: o.ID, Commitment: o.Commitment, Model: o.Model}})
	}
	return list
}
