package service

import (
	"runtime/debug"
	"testing"
	"testing/fstest"
)

func groupFiles(files map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, data := range files {
		out[name] = &fstest.MapFile{Data: []byte(data)}
	}
	return out
}

func TestTheLeastLimitOfAllControlGroupsCounts(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
	}{
		"nothing is known": {nil, 0},
		"no limit":         {map[string]string{"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, 0},
		"version 2": {map[string]string{"proc/self/cgroup": "0::/system.slice/b.service\n",
			"sys/fs/cgroup/system.slice/b.service/memory.max": "536870912\n"}, 512 << 20},
		"the slice allows less": {map[string]string{"proc/self/cgroup": "0::/system.slice/b.service\n",
			"sys/fs/cgroup/system.slice/b.service/memory.max": "536870912\n", "sys/fs/cgroup/system.slice/memory.max": "1048576\n"}, 1 << 20},
		"a container's own root": {map[string]string{"proc/self/cgroup": "0::/docker/x\n", "sys/fs/cgroup/memory.max": "2097152\n"}, 2 << 20},
		"version 1": {map[string]string{"proc/self/cgroup": "5:cpu,memory:/b\n1:name=systemd:/c\n0::/\n",
			"sys/fs/cgroup/memory/b/memory.limit_in_bytes": "4194304\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 4 << 20},
		"version 1 without a limit": {map[string]string{"proc/self/cgroup": "5:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 0},
		"another controller": {map[string]string{"proc/self/cgroup": "5:memory_of_mine:/b\n", "sys/fs/cgroup/memory/b/memory.limit_in_bytes": "4096\n"}, 0},
		"no number":          {map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "much\n"}, 0},
		"no line":            {map[string]string{"proc/self/cgroup": "0\n\n", "sys/fs/cgroup/memory.max": "4096\n"}, 0},
		"climbing out":       {map[string]string{"proc/self/cgroup": "0::/../../etc\n", "sys/fs/cgroup/memory.max": "8192\n"}, 8192},
	} {
		got, ok := memoryMax(groupFiles(c.files))
		if ok != (c.want != 0) || ok && got != c.want {
			t.Errorf("%s: %d, %t, want %d", name, got, ok, c.want)
		}
	}
}

func TestTheHeapIsBoundedBelowTheControlGroupsLimit(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() { debug.SetGCPercent(percent); debug.SetMemoryLimit(limit) }()
	none := func(string) string { return "" }
	for _, c := range []struct {
		files map[string]string
		want  int64
	}{
		{nil, 256 << 20},
		{map[string]string{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "134217728\n"}, 64 << 20},
	} {
		if got := collectSeldom(groupFiles(c.files), none); got != c.want || debug.SetMemoryLimit(-1) != c.want {
			t.Errorf("bound %d, in force %d, want %d", got, debug.SetMemoryLimit(-1), c.want)
		}
		if got := debug.SetGCPercent(100); got != collectAt {
			t.Errorf("the heap may grow %d %%, want %d", got, collectAt)
		}
	}
	debug.SetMemoryLimit(limit)
	if got := collectSeldom(nil, func(name string) string { return "off" }); got != 0 || debug.SetMemoryLimit(-1) != limit || debug.SetGCPercent(100) != 100 {
		t.Error("what the environment says was changed")
	}
}
