// hardparts-broker is the embedded broker: franz-go's kfake, a Kafka-compatible cluster in one small process that listens on
// loopback only. It is for development, tests and the demo, never for production: it keeps one copy of the data, and after a
// crash it has aborted open transactions and forgotten the members of consumer groups.
package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

// Exit codes that pipeline/broker/process.py turns into messages.
const (
	exitFailed     = 1
	exitUsage      = 2
	exitPortTaken  = 3
	exitDataLocked = 4
)

func main() {
	port := flag.Int("port", 0, "port of the first broker, the others follow; 0: any free ones")
	portList := flag.String("ports", "", "every broker's port, separated by commas, instead of -port")
	data := flag.String("data", "", "directory that keeps topics and offsets; empty: memory only")
	brokers := flag.Int("brokers", 1, "number of brokers")
	clusterID := flag.String("cluster-id", "", "cluster id in metadata answers; empty: a random one")
	partitions := flag.Int("partitions", 1, "partitions of a topic created without a number; Kafka has 1, too")
	parentStdin := flag.Bool("parent-stdin", false, "stop when standard input ends, that is when the parent is gone")
	flag.Parse()
	if flag.NArg() > 0 || *brokers < 1 || *port < 0 || *port+*brokers-1 > 65535 {
		fail(exitUsage, "wrong flags: %s", strings.Join(os.Args[1:], " "))
	}

	options := []kfake.Opt{
		kfake.NumBrokers(*brokers),
		kfake.DefaultNumPartitions(*partitions),
		kfake.AllowAutoTopicCreation(), // as Kafka does by default: who asks about a missing topic may create it
		kfake.WithLogger(kfake.BasicLogger(os.Stderr, kfake.LogLevelError)),
		kfake.BrokerConfigs(map[string]string{"log.cleaner.backoff.ms": "60000"}), // compact each minute, not each hour
	}
	if ports := chosenPorts(*portList, *port, *brokers); ports != nil {
		options = append(options, kfake.Ports(ports...))
	}
	if *data != "" {
		lock, err := lockDirectory(*data)
		if err != nil {
			fail(exitDataLocked, "%v", err)
		}
		defer lock.Close() // held, and kept from the garbage collector, until the end
		options = append(options, kfake.DataDir(*data))
	}
	if *clusterID == "" {
		*clusterID = newClusterID() // for an empty directory: kfake keeps it there, and what is there goes first
	}
	options = append(options, kfake.ClusterID(*clusterID))

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	cluster, err := kfake.NewCluster(options...)
	if errors.Is(err, syscall.EADDRINUSE) {
		fail(exitPortTaken, "port taken: %v", err)
	} else if err != nil {
		fail(exitFailed, "%v", err)
	}
	fmt.Println("ready kafka://" + strings.Join(cluster.ListenAddrs(), ","))

	if *parentStdin {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop <- syscall.SIGTERM
		}()
	}
	<-stop
	cluster.Close()
}

// chosenPorts is nil when any free ports will do.
func chosenPorts(list string, first, brokers int) []int {
	var ports []int
	if list != "" {
		for _, text := range strings.Split(list, ",") {
			port, err := strconv.Atoi(text)
			if err != nil {
				fail(exitUsage, "not a port: %s", text)
			}
			ports = append(ports, port)
		}
		if len(ports) != brokers {
			fail(exitUsage, "%d ports for %d brokers", len(ports), brokers)
		}
	} else if first != 0 {
		for i := range brokers {
			ports = append(ports, first+i)
		}
	}
	return ports
}

// lockDirectory makes the directory and takes its lock: two brokers writing to one would spoil it. The kernel frees the lock
// when the process ends, however it ends.
func lockDirectory(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "hardparts-broker.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("data directory %s is in use by another broker (%w)", dir, err)
	}
	return file, nil
}

// newClusterID is "embedded-" and a random UUID in 22 characters of base64, as Kafka's ids are. Who reads a changelog sees by
// the prefix that compaction may have moved its start, which Kafka's never does.
func newClusterID() string {
	var id [16]byte
	_, _ = rand.Read(id[:])                         // never fails
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4
	return "embedded-" + base64.RawURLEncoding.EncodeToString(id[:])
}

func fail(code int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "hardparts-broker: "+format+"\n", args...)
	os.Exit(code)
}
