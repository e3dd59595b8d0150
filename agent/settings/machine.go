package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/anchorhold/anchorhold/agent/worker/linkage"
	"github.com/anchorhold/anchorhold/crypto/hybridtls"
	"github.com/anchorhold/anchorhold/systemd/config"
)

// maxSocketPath is the longest path of a unix socket: sun_path without its end (unix(7)).
const maxSocketPath = 107

// CheckMachine finds what the configuration needs and this machine does not have: files,
// what must be in them, directories; users and groups are
// found by Check already. It changes nothing. A configuration without errors of
// Check and of CheckMachine is one with which the agent starts and has something to serve.
func (c Config) CheckMachine() Findings {
	var f Findings
	c.checkTrust(&f)
	c.checkServed(&f)
	c.checkPlaces(&f)
	return f
}

// Add joins the findings of another check.
func (f *Findings) Add(other Findings) {
	f.Errors = append(f.Errors, other.Errors...)
	f.Notices = append(f.Notices, other.Notices...)
	f.Missing = append(f.Missing, other.Missing...)
}

// checkTrust reads the roots that the agent trusts.
func (c Config) checkTrust(f *Findings) {
	for _, file := range [][2]string{{"broker.tls_roots", c.Broker.TLSRoots}, {"federation.tls_roots", c.Federation.TLSRoots}} {
		field, path := file[0], file[1]
		if path == "" {
			continue
		}
		pem, err := config.ReadFile(path, maxRootsBytes)
		if err != nil {
			f.errorf("%s: %v", field, err)
		} else if _, err := hybridtls.Roots(pem); err != nil {
			f.errorf("%s: %s: %v", field, path, err)
		}
	}
	if _, err := c.RootIdentities(); err != nil {
		f.errorf("%v", err)
	}
}

// checkServed looks at the sealed files. One that is missing is an error where nothing is
// left to serve; else the agent serves the others, and takes it when it is there. One that
// is there and would not be opened, whatever its key, is an error.
func (c Config) checkServed(f *Findings) {
	var absent []string
	all := c.Sealed()
	for _, s := range all {
		_, identity := Identity(s.Publisher)
		if s.Publisher != "" && identity != nil {
			f.errorf("%s.publisher: %v", s.Field, identity)
		}
		if s.Path == "" {
			continue
		}
		if err := regular(s.Path); err != nil {
			absent = append(absent, fmt.Sprintf("%s.path: %v", s.Field, err))
		} else if identity == nil {
			s.check(f)
		}
	}
	if len(absent) == len(all) && !c.Participates() {
		f.Errors = append(f.Errors, absent...)
	} else {
		f.Notices = append(f.Notices, absent...)
	}
	if keys := c.Proofs.Keys; keys != "" {
		if err := directory(keys); err != nil {
			f.errorf("proofs.keys: %v", err)
		}
	}
}

// checkPlaces looks where the agent makes its files and its socket, and for its worker.
func (c Config) checkPlaces(f *Findings) {
	if dir := c.Guest.StateDir; dir != "" {
		err := directory(dir)
		if err != nil && (!errors.Is(err, fs.ErrNotExist) || directory(filepath.Dir(dir)) != nil) {
			f.errorf("guest.state_dir: %v: create it first, for the agent's user", err)
		} else {
			if err != nil {
				dir = filepath.Dir(dir) // where it is to be made
			}
			checkWritable(f, dir)
		}
	}
	if path := c.Socket.Path; path != "" {
		if err := directory(filepath.Dir(path)); err != nil {
			f.errorf("socket.path: %v: create it first, for those who will open the socket", err)
		} else if info, err := os.Lstat(path); err == nil && info.Mode().Type() != fs.ModeSocket {
			f.errorf("socket.path: %s exists and is not a socket", path)
		}
	}
	if !c.Participates() && !c.Proves() {
		return
	}
	switch w := c.Workers; {
	case w.Path != "":
		if err := regular(w.Path); err != nil {
			f.errorf("workers.path: %v", err)
		}
	case w.Socket != "":
		if info, err := os.Stat(w.Socket); err != nil || info.Mode().Type() != fs.ModeSocket {
			f.noticef("workers.socket: there is no socket %s yet: start anchorhold-worker.socket before there is work", w.Socket)
		}
	}
}

// checkWritable finds out whether something can be made in the state directory, or where that
// is to be made, by making and removing it: file systems that take nothing have permissions
// like others. Users who may not are told that this was not checked.
func checkWritable(f *Findings, dir string) {
	trial, err := os.MkdirTemp(dir, ".anchorhold-check-")
	switch {
	case err == nil:
		if err := os.Remove(trial); err != nil {
			f.errorf("guest.state_dir: %v", err)
		}
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0:
		f.noticef("guest.state_dir: not checked whether the agent can write to %s: this user cannot; run the check as the agent's user", dir)
	default:
		f.errorf("guest.state_dir: nothing can be created in %s (%v): name a directory on a writable file system", dir, errors.Unwrap(err))
	}
}

// regular refuses anything but a regular file.
func regular(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	return err
}

// missing is the error of a directory that is not there.
type missing struct{ path string }

func (m *missing) Error() string { return "the directory " + m.path + " does not exist" }

func (m *missing) Unwrap() error { return fs.ErrNotExist }

// directory refuses anything but a directory.
func directory(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &missing{path}
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is not a directory", path)
	}
	return err
}

// WorkersUnit is the program that anchorhold-worker@.service starts.
const WorkersUnit = "/usr/bin/anchorhold-worker"

// CheckWorker says what is wrong with the program that workers are started from, as
// far as the configuration names it: a worker's unit can start none that is linked
// dynamically. It is a warning: a drop-in of the unit may name another program. That
// workers.path is not there CheckMachine says.
func (c Config) CheckWorker() error {
	program := c.Workers.Path
	if c.Workers.Socket != "" {
		program = WorkersUnit
	}
	if program == "" || !c.Participates() && c.Proofs.Keys == "" {
		return nil
	}
	err := linkage.Static(program)
	if err != nil && (c.Workers.Socket != "" || !errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("workers: %w; anchorhold-worker@.service cannot start such a program (203/EXEC in the journal)", err)
	}
	return nil
}
